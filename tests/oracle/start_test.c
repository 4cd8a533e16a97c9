/* start_test.c: what it costs to start: `mote run -n 1` on the real models stays within the file's size and 32 MB of
 * memory, mapped pages included, and so does a longer answer but for its keys and values. Reported with the wall time as
 * a share of llama.cpp's, where that is installed; times are never asserted.
 *
 *   start_test [--report] */
#include "base/clock.h"
#include "oracle_models.h"
#include "report.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLACK_BYTES 32e6

typedef struct cost {
    double wall_s, peak_bytes;
    int status; /* of the process; 127 when there is no such program */
} cost;

static cost run(const char *const *argv) {
    uint64_t t0 = clock_ns();
    struct rusage use = {0};
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int i = 0; i < 3; i++) dup2(null, i);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || wait4(pid, &status, 0, &use) != pid) exit(2);
    return (cost){(double)(clock_ns() - t0) * 1e-9, (double)use.ru_maxrss * 1024, WIFEXITED(status) ? WEXITSTATUS(status) : 1};
}

/* The fastest of three: the first may read the disk. */
static cost fastest(const char *const *argv) {
    cost best = run(argv);
    for (int i = 0; i < 2; i++) {
        cost c = run(argv);
        if (c.wall_s < best.wall_s) best = c;
    }
    return best;
}

/* kv_bytes: what the keys and values of the longer answer may take. */
static int check(const char *file, const char *name, double kv_bytes, bool report) {
    char path[4096], peer[4096];
    struct stat st;
    const char *shared = getenv("MOTE_SHARED");
    oracle_model(path, file);
    if (stat(path, &st) != 0) return 1;
    (void)snprintf(peer, sizeof peer, "%s/peers/run", shared ? shared : "../shared");
    const char *one[] = {MOTE_PROGRAM, "run", "-m", path, "-p", "Hello", "-n", "1", "--raw", NULL};
    const char *many[] = {MOTE_PROGRAM, "run", "-m", path, "-p", "Hello", "-n", "32", "--raw", "--ignore-eos", NULL};
    const char *theirs[] = {peer, "llamacpp", "llama-completion", "-m", path, "-p", "Hello", "-n", "1", "-no-cnv", "-t", "2",
                            "--no-warmup", NULL};
    cost a = report ? fastest(one) : run(one), b = run(many);
    double limit = (double)st.st_size + SLACK_BYTES;
    int failed = a.status != 0 || b.status != 0 || a.peak_bytes > limit || b.peak_bytes > limit + kv_bytes;
    printf("%s %s: %.3f s; peak %.0f MB for a token, %.0f MB for 32; the file has %.0f\n", failed ? "FAIL" : "ok  ", name, a.wall_s,
           a.peak_bytes * 1e-6, b.peak_bytes * 1e-6, (double)st.st_size * 1e-6);
    if (!report) return failed;
    cost c = fastest(theirs);
    char item[64], measured[64], bar[64], speed[64];
    (void)snprintf(item, sizeof item, "start %s", name);
    (void)snprintf(measured, sizeof measured, "peak %.0f MB, 32 tokens %.0f MB", a.peak_bytes * 1e-6, b.peak_bytes * 1e-6);
    (void)snprintf(bar, sizeof bar, "%.0f MB", limit * 1e-6);
    (void)snprintf(speed, sizeof speed, "%.3f s", a.wall_s);
    if (c.status == 0) (void)snprintf(speed, sizeof speed, "%.3f s, %.2f of llama.cpp", a.wall_s, a.wall_s / c.wall_s);
    report_row("model", item, measured, bar, failed ? "FAIL" : "ok", speed, "mote run -n 1");
    return failed;
}

int main(int argc, char **argv) {
    bool report = report_wanted(argc, argv);
    int failed = check("smollm2-135m-instruct.q4_1.gguf", "smollm2-135m", 2e6, report);
    failed |= check("gemma3-270m.q4_k_m.gguf", "gemma3-270m", 30e6, report); /* windows begin with their batch's room */
    return failed;
}
