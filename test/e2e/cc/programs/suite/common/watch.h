void watch_start(int number);
void watch_stop(int number);
double watch_total(int number);
