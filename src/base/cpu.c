#include "base/cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
static uint64_t xgetbv0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}
static uint32_t detect(void) {
    uint32_t a, b, c, d, f = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!(c & bit_OSXSAVE) || !(c & bit_FMA) || !(c & bit_F16C)) return 0;
    uint64_t os = xgetbv0();
    if ((os & 6) != 6) return 0;
    uint32_t b7, c7, d7;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if (!(b7 & bit_AVX2)) return 0;
    f |= CPU_AVX2;
    uint32_t a71 = 0, x, y, z;
    if (a >= 1) __get_cpuid_count(7, 1, &a71, &x, &y, &z);
    if (a71 & (1u << 4)) f |= CPU_AVXVNNI;
    uint32_t need = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((os & 0xE6) != 0xE6 || (b7 & need) != need) return f;
    f |= CPU_AVX512;
    if (c7 & (1u << 11)) f |= CPU_AVX512VNNI;
    if ((f & CPU_AVX512VNNI) && (a71 & (1u << 5))) f |= CPU_AVX512BF16;
    return f;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>
static uint32_t detect(void) {
    unsigned long h = getauxval(AT_HWCAP), h2 = getauxval(AT_HWCAP2);
    uint32_t f = CPU_NEON;
    if (h & (1ul << 20)) f |= CPU_DOTPROD;
    if ((f & CPU_DOTPROD) && (h2 & (1ul << 13))) f |= CPU_I8MM;
    return f;
}
#else
static uint32_t detect(void) { return 0; }
#endif

uint32_t cpu_detect(void) {
    static _Atomic uint32_t cached; /* flags | known bit: the one allowed global */
    uint32_t known = 1u << 31, v = atomic_load_explicit(&cached, memory_order_relaxed);
    if (!(v & known)) {
        v = detect() | known;
        atomic_store_explicit(&cached, v, memory_order_relaxed);
    }
    return v & ~known;
}

static const struct {
    const char *name;
    uint32_t mask;
} rungs[] = {
    {"scalar", 0},
    {"avx2", CPU_AVX2},
    {"avxvnni", CPU_AVX2 | CPU_AVXVNNI},
    {"avx512", CPU_AVX2 | CPU_AVX512},
    {"avx512vnni", CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512 | CPU_AVX512VNNI},
    {"avx512bf16", CPU_AVX2 | CPU_AVXVNNI | CPU_AVX512 | CPU_AVX512VNNI | CPU_AVX512BF16},
    {"neon", CPU_NEON},
    {"dotprod", CPU_NEON | CPU_DOTPROD},
    {"i8mm", CPU_NEON | CPU_DOTPROD | CPU_I8MM},
    {"all", CPU_ALL},
};

uint32_t cpu_mask_by_name(const char *name, int *ok) {
    for (size_t i = 0; i < sizeof rungs / sizeof rungs[0]; i++)
        if (strcmp(rungs[i].name, name) == 0) {
            *ok = 1;
            return rungs[i].mask;
        }
    *ok = 0;
    return 0;
}

const char *cpu_rung_name(uint32_t flags) {
    if (flags & CPU_AVX512BF16) return "avx512bf16";
    if (flags & CPU_AVX512VNNI) return "avx512vnni";
    if (flags & CPU_AVX512) return "avx512";
    if (flags & CPU_AVXVNNI) return "avxvnni";
    if (flags & CPU_AVX2) return "avx2";
    if (flags & CPU_I8MM) return "i8mm";
    if (flags & CPU_DOTPROD) return "dotprod";
    if (flags & CPU_NEON) return "neon";
    return "scalar";
}

const char *cpu_model_name(char *out, unsigned long cap) {
    (void)snprintf(out, cap, "unknown CPU");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return out;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        colon[1 + strcspn(colon + 1, "\n")] = 0;
        (void)snprintf(out, cap, "%s", colon + 2);
        break;
    }
    fclose(f);
    return out;
}

int cpu_cores_usable(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}
