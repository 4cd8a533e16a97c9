/* cpu.h: what this CPU and its operating system can do. Detected once; masks make every rung testable. */
#ifndef MOTE_BASE_CPU_H
#define MOTE_BASE_CPU_H

#include <stdbool.h>
#include <stdint.h>

/* Features that ship together are one flag, weakest first: each x86 rung implies the ones below. */
enum {
    CPU_AVX2 = 1u << 0,       /* AVX2 + FMA + F16C */
    CPU_AVXVNNI = 1u << 1,    /* 256-bit vpdpbusd */
    CPU_AVX512 = 1u << 2,     /* F + BW + VL + DQ */
    CPU_AVX512VNNI = 1u << 3, /* AVX512 + VNNI */
    CPU_AVX512BF16 = 1u << 4, /* vdpbf16ps */
    CPU_NEON = 1u << 8,       /* AArch64 baseline */
    CPU_DOTPROD = 1u << 9,    /* sdot */
    CPU_I8MM = 1u << 10,      /* smmla */
};
#define CPU_ALL UINT32_MAX

uint32_t cpu_detect(void); /* flags of this machine; computed once. Thread: any */
/* The mask for a rung by name: "scalar", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "neon",
 * "dotprod", "i8mm", "all" (each with all rungs below); 0 for "scalar". Returns 0 and sets *ok to 0 when unknown. */
uint32_t cpu_mask_by_name(const char *name, int *ok);
const char *cpu_rung_name(uint32_t flags); /* the highest rung in flags */
const char *cpu_model_name(char *out, unsigned long cap);
int cpu_cores_usable(void); /* cores in this process's affinity mask, ≥ 1 */

/* Threads to start with: the fast physical cores that this process may use, within its control group's quota; ≥ 1. */
int cpu_threads_default(void);
/* The same for a tree of files at `root` ("" for this machine's) and the given CPUs. */
int cpu_threads_in(const char *root, const bool *usable, int n_cpus);

#endif
