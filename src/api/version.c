/* version.c: bodies of mote/version.h and mote/guard.h. */
#include "mote/guard.h"
#include "mote/version.h"

#include "base/cpu.h"
#include "base/file.h"

const char *mote_version(void) { return MOTE_VERSION; }
const char *mote_cpu_isa(void) { return cpu_rung_name(cpu_detect()); }
const char *mote_cpu_name(char *out, size_t cap) { return cpu_model_name(out, cap); }
int mote_cpu_cores(void) { return cpu_cores_usable(); }
bool mote_guard_contains(const void *addr) { return file_guard_contains(addr); }
