/* version.h: which mote this is, and what it runs on. Thread: any. */
#ifndef MOTE_VERSION_H
#define MOTE_VERSION_H

#include "mote/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOTE_VERSION_MAJOR 0
#define MOTE_VERSION_MINOR 1
#define MOTE_VERSION_PATCH 0
#define MOTE_VERSION "0.1.0"

/* The version of the library that is linked, which may differ from the header's. Static storage. */
MOTE_API const char *mote_version(void);
/* The highest rung of the ISA ladder that this machine can run ("avx512vnni", "scalar"). Static storage. */
MOTE_API const char *mote_cpu_isa(void);
/* The name of the processor, at most cap - 1 bytes and NUL, into out; returns out. */
MOTE_API const char *mote_cpu_name(char *out, size_t cap);
/* Number of cores this process may use, at least 1. */
MOTE_API int mote_cpu_cores(void);

#ifdef __cplusplus
}
#endif
#endif
