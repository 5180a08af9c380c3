/*
 * v*printf and v*scanf for a va_list that compiled IR made: x86-64's, with all arguments in memory
 * (src/toolchain/variadics.ts).
 *
 *   struct list { u32 gp_offset = 48, u32 fp_offset = 304, void *overflow, void *registers }
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <syslog.h>

struct list {
  unsigned gp_offset, fp_offset;
  void *overflow, *registers;
};

#if defined(__aarch64__)
/* AAPCS64, 10.1.5: the same memory as the stacked arguments, no registers saved. */
struct aapcs_list {
  void *stack, *gr_top, *vr_top;
  int gr_offset, vr_offset;
};
_Static_assert(sizeof(struct aapcs_list) == sizeof(va_list), "va_list of AAPCS64");
#define NATIVE(name, from)                                        \
  va_list name;                                                   \
  *(struct aapcs_list *)&name = (struct aapcs_list){.stack = (from)->overflow}
#else
_Static_assert(sizeof(struct list) == sizeof(va_list), "va_list of x86-64");
#define NATIVE(name, from) \
  va_list name;            \
  *(struct list *)name = *(from)
#endif

int __imago_vprintf(const char *format, struct list *l) { NATIVE(native, l); return vprintf(format, native); }
int __imago_vfprintf(FILE *file, const char *format, struct list *l) { NATIVE(native, l); return vfprintf(file, format, native); }
int __imago_vsprintf(char *to, const char *format, struct list *l) { NATIVE(native, l); return vsprintf(to, format, native); }
int __imago_vsnprintf(char *to, size_t size, const char *format, struct list *l) { NATIVE(native, l); return vsnprintf(to, size, format, native); }
int __imago_vdprintf(int fd, const char *format, struct list *l) { NATIVE(native, l); return vdprintf(fd, format, native); }
int __imago_vasprintf(char **to, const char *format, struct list *l) { NATIVE(native, l); return vasprintf(to, format, native); }
int __imago_vscanf(const char *format, struct list *l) { NATIVE(native, l); return vscanf(format, native); }
int __imago_vfscanf(FILE *file, const char *format, struct list *l) { NATIVE(native, l); return vfscanf(file, format, native); }
int __imago_vsscanf(const char *from, const char *format, struct list *l) { NATIVE(native, l); return vsscanf(from, format, native); }
void __imago_vsyslog(int priority, const char *format, struct list *l) { NATIVE(native, l); vsyslog(priority, format, native); }
void __imago_vwarn(const char *format, struct list *l) { NATIVE(native, l); vwarn(format, native); }
void __imago_vwarnx(const char *format, struct list *l) { NATIVE(native, l); vwarnx(format, native); }
_Noreturn void __imago_verr(int status, const char *format, struct list *l) { NATIVE(native, l); verr(status, format, native); }
_Noreturn void __imago_verrx(int status, const char *format, struct list *l) { NATIVE(native, l); verrx(status, format, native); }
