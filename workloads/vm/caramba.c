/*
 * The program of the ScratchVM's demonstration, written anew: it opens a file, writes a line, asks the
 * monitor to save (system call 400), writes another line, says so, closes. No libc: each call below is one system call.
 */
static long call3(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

enum { NR_write = 1, NR_open = 2, NR_close = 3, NR_exit = 60, NR_save = 400 };

#define TEXT(text) (long)(text), (long)sizeof(text) - 1

__attribute__((force_align_arg_pointer)) void _start(void) {
    long file = call3(NR_open, (long)"./ay_caramba.txt", 32834, 0777); /* O_LARGEFILE | O_RDWR | O_CREAT */
    call3(NR_write, file, TEXT("Hello World !!!\n"));
    call3(NR_save, 0, 0, 0);
    call3(NR_write, file, TEXT("Bye Bye !!!\n"));
    call3(NR_write, 1, TEXT("File written successfully.\n\0"));
    call3(NR_close, file, 0, 0);
    call3(NR_exit, 0, 0, 0);
}
