/*
 * Migration points that a program calls itself. Compiled with the program, through the shadow-frame pass: their callers
 * may migrate. Weak, so that a program may have functions of these names.
 */
extern volatile unsigned long __imago_request;
void __imago_park(void);

__attribute__((weak)) void imago_migrate(void) {
  if (__imago_request != 0) __imago_park();
}

/* Popcorn Linux: the callback runs where the thread goes on. imago decides where that is, so the node is not looked at. */
__attribute__((weak)) void migrate(int node, void (*callback)(void *), void *data) {
  (void)node;
  if (__imago_request == 0) return;
  __imago_park();
  if (callback) callback(data);
}
