#ifndef CLOCK_H
#define CLOCK_H
#define seconds seconds_ /* as a Fortran compiler would name it */
#endif
