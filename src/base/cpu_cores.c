/* cpu_cores.c: how many threads a computation should start with: one for each fast physical core that this process may
 * use. Two threads of one core share its vector units and its caches; slow cores of a hybrid processor make the fast ones
 * wait at every barrier; and what a control group's quota does not pay for is taken away in long pauses. */
#include "base/cpu.h"

#include <sched.h>
#include <stdio.h>

enum { CORES_MAX = CPU_SETSIZE };

/* The first line of root/path; false when there is none. */
static bool read_line(const char *root, const char *path, char *line, size_t cap) {
    char full[512];
    int n = snprintf(full, sizeof full, "%s%s", root, path);
    FILE *f = n > 0 && (size_t)n < sizeof full ? fopen(full, "re") : NULL;
    if (!f) return false;
    bool ok = fgets(line, (int)cap, f) != NULL;
    fclose(f);
    return ok;
}

static bool read_cpu(const char *root, int cpu, const char *what, char *line, size_t cap) {
    char path[160];
    (void)snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/%s", cpu, what);
    return read_line(root, path, line, cap);
}

/* A number at *p, which moves behind it; false when there is none. */
static bool take_number(const char **p, long *v) {
    const char *s = *p + (**p == ' ');
    if (*s < '0' || *s > '9') return false;
    for (*v = 0; *s >= '0' && *s <= '9' && *v < 1L << 40; s++) *v = 10 * *v + (*s - '0');
    *p = s;
    return true;
}

/* Whether `cpu` is in a list like "0-3,8". */
static bool in_list(const char *list, int cpu) {
    long from, to;
    for (const char *p = list; take_number(&p, &from); p++) {
        to = from;
        if (*p == '-') {
            p++;
            if (!take_number(&p, &to)) return false;
        }
        if (cpu >= from && cpu <= to) return true;
        if (*p != ',') return false;
    }
    return false;
}

/* How fast a core is among its likes: its capacity, or its highest frequency; 0: not known. */
static long speed_of(const char *root, int cpu) {
    static const char *const files[] = {"cpu_capacity", "cpufreq/cpuinfo_max_freq"};
    char line[64];
    long v;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *p = line;
        if (read_cpu(root, cpu, files[i], line, sizeof line) && take_number(&p, &v) && v > 0 && v < 1L << 30) return v;
    }
    return 0;
}

/* Whole cores that the control group may use; CORES_MAX: no limit. */
static int quota_of(const char *root) {
    char line[96];
    const char *p = line;
    long quota = -1, period = 0;
    if (read_line(root, "/sys/fs/cgroup/cpu.max", line, sizeof line)) {
        if (!take_number(&p, &quota) || !take_number(&p, &period)) return CORES_MAX; /* "max" */
    } else if (read_line(root, "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", line, sizeof line)) {
        if (!take_number(&p, &quota)) return CORES_MAX;
        p = line;
        if (!read_line(root, "/sys/fs/cgroup/cpu/cpu.cfs_period_us", line, sizeof line) || !take_number(&p, &period)) return CORES_MAX;
    }
    if (quota <= 0 || period <= 0) return CORES_MAX;
    long n = quota / period + (quota % period >= (period + 1) / 2);
    return n < 1 ? 1 : n > CORES_MAX ? CORES_MAX : (int)n;
}

int cpu_threads_in(const char *root, const bool *usable, int n_cpus) {
    char hybrid[256], siblings[256];
    bool is_hybrid = read_line(root, "/sys/devices/cpu_core/cpus", hybrid, sizeof hybrid); /* Intel names its fast cores */
    long fastest = 0;
    int n = 0;
    for (int i = 0; i < n_cpus; i++)
        if (usable[i] && speed_of(root, i) > fastest) fastest = speed_of(root, i);
    for (int i = 0; i < n_cpus; i++) {
        if (!usable[i]) continue;
        if (is_hybrid ? !in_list(hybrid, i) : speed_of(root, i) * 10 < fastest * 7) continue;
        bool first = true;
        if (read_cpu(root, i, "topology/thread_siblings_list", siblings, sizeof siblings))
            for (int j = 0; j < i; j++) first &= !(usable[j] && in_list(siblings, j));
        n += first;
    }
    int all = 0, quota = quota_of(root);
    for (int i = 0; i < n_cpus; i++) all += usable[i];
    if (n == 0) n = all; /* only slow cores are left to us */
    if (n > quota) n = quota;
    return n < 1 ? 1 : n;
}

int cpu_threads_default(void) {
    static const int cpus = CPU_SETSIZE;
    bool usable[CPU_SETSIZE];
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    for (int i = 0; i < cpus; i++) usable[i] = CPU_ISSET(i, &set);
    return cpu_threads_in("", usable, cpus);
}
