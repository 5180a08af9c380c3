/* Room for the larger of the two ISAs' registers. */
typedef unsigned long __jmp_buf[22];
