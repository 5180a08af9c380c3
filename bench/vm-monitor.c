/*
 * A KVM monitor in C, to measure imago's against: it restores the guest that bench/vm.mjs saved, from the same image, and
 * serves its system calls with the same loop (one KVM_RUN an exit, registers in struct kvm_run).
 *
 *   vm-monitor IMAGE STATE
 *
 * STATE, written by the bench, little endian:
 *
 *      0  offset of guest memory in IMAGE   u64        32  struct kvm_regs     144 bytes
 *      8  bytes of guest memory             u64       176  struct kvm_sregs    312 bytes
 *     16  LSTAR                             u64       488  struct kvm_xsave   4096 bytes
 *     24  XCR0                              u64
 *
 * Prints: milliseconds from the start to the first system call, system calls served, milliseconds for them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { SYSCALL_PORT = 0x10, NR_getpid = 39, NR_exit = 60, NR_exit_group = 231 };

struct state {
    uint64_t offset, size, lstar, xcr0;
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_xsave xsave;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static long check(long result, const char *what) {
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void set_cpuid(int kvm, int vcpu) {
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[256];
    } cpuid = {.head.nent = 256};
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
}

static void set_msrs(int vcpu, uint64_t lstar) {
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entries[3];
    } msrs = {.head.nmsrs = 3,
              .entries = {{.index = 0xc0000081, .data = 0x001b000800000000}, /* STAR */
                          {.index = 0xc0000082, .data = lstar},
                          {.index = 0xc0000084, .data = 0x47700}}}; /* SFMASK */
    check(ioctl(vcpu, KVM_SET_MSRS, &msrs), "KVM_SET_MSRS");
}

int main(int argc, char **argv) {
    static struct state state;
    if (argc != 3)
        return 2;
    int state_file = (int)check(open(argv[2], O_RDONLY), argv[2]);
    if (read(state_file, &state, sizeof state) != sizeof state)
        return 2;

    double began = now();
    int image = (int)check(open(argv[1], O_RDONLY), argv[1]);
    void *memory = mmap(0, state.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, image, (off_t)state.offset);
    check(memory == MAP_FAILED ? -1 : 0, "mmap");
    int kvm = (int)check(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
    int vm = (int)check(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
    struct kvm_userspace_memory_region region = {.memory_size = state.size, .userspace_addr = (uintptr_t)memory};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    int vcpu = (int)check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
    size_t run_size = (size_t)check(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *run = mmap(0, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    check(run == MAP_FAILED ? -1 : 0, "mmap of kvm_run");
    set_cpuid(kvm, vcpu);
    set_msrs(vcpu, state.lstar);
    struct kvm_xcrs xcrs = {.nr_xcrs = 1, .xcrs = {{.value = state.xcr0}}};
    check(ioctl(vcpu, KVM_SET_XCRS, &xcrs), "KVM_SET_XCRS");
    check(ioctl(vcpu, KVM_SET_XSAVE, &state.xsave), "KVM_SET_XSAVE");
    check(ioctl(vcpu, KVM_SET_SREGS, &state.sregs), "KVM_SET_SREGS");
    check(ioctl(vcpu, KVM_SET_REGS, &state.regs), "KVM_SET_REGS");
    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;

    double first = 0;
    long served = 0;
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason != KVM_EXIT_IO || run->io.port != SYSCALL_PORT) {
            fprintf(stderr, "exit %u\n", run->exit_reason);
            return 1;
        }
        if (first == 0)
            first = now();
        struct kvm_regs *regs = &run->s.regs.regs;
        if (regs->rax == NR_exit || regs->rax == NR_exit_group)
            break;
        served++;
        regs->rax = regs->rax == NR_getpid ? 1 : (uint64_t)-38; /* ENOSYS */
        /* Nested PVM enters LSTAR without leaving ring 3: there the return is ours. */
        if (run->s.regs.sregs.cs.dpl == 3) {
            regs->rip = regs->rcx;
            regs->rflags = regs->r11;
        }
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    }
    printf("%.4f %ld %.4f\n", first - began, served, now() - first);
    return 0;
}
