/*
 * A bootstrap as the ScratchVM's: real mode at 0x8000 → protected mode → long mode, then the program in ring 3.
 * r14 is the top of its stack, r15 its first instruction. System calls arrive at 0x80a0 in ring 0 and halt there.
 *
 *   0x1000 PML4   0x2000 PDPT   0x3000 page directory: the first 2 MiB, seen where they are
 */
.set ENTRY, 0x80a0
.code16
.globl _start
_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movl $0x2007, 0x1000            /* present, writable, user */
    movl $0x3007, 0x2000
    movl $0x87, 0x3000              /* the same, 2 MiB */
    lgdtl gdt_register
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x18, $protected

.code32
protected:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x620, %eax               /* PAE OSFXSR OSXMMEXCPT */
    movl %eax, %cr4
    movl $0x1000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx          /* EFER: LME, SCE */
    rdmsr
    orl $0x101, %eax
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x08, $long

.code64
long:
    movl $0xc0000081, %ecx          /* STAR: sysret 0x18, syscall 0x08 */
    xorl %eax, %eax
    movl $0x00180008, %edx
    wrmsr
    jmp on
    .org 0xa0
    hlt                             /* LSTAR: the monitor serves the call here */
    sysretq
on:
    movl $0xc0000082, %ecx
    movl $ENTRY, %eax
    xorl %edx, %edx
    wrmsr
    vmcall                          /* as the ScratchVM's does before it leaves */
    movq %r15, %rcx
    movl $2, %r11d
    movq %r14, %rsp
    sysretq

    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff        /* 0x08 code, 64 bits */
    .quad 0x00cf93000000ffff        /* 0x10 data */
    .quad 0x00cf9b000000ffff        /* 0x18 code, 32 bits, on the way only */
    .quad 0x00cff3000000ffff        /* 0x20 data, ring 3 */
    .quad 0x00affb000000ffff        /* 0x28 code, 64 bits, ring 3 */
gdt_register:
    .word . - gdt - 1
    .long gdt
