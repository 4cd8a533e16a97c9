/* train_view.c: what commands that train have in common: their options, their progress, Ctrl-C. */
#include "train_flags.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The module beside the program, or where it is installed. */
static const char *mpi_module(void) {
    static char path[PATH_MAX + 64];
    const char *named = getenv("MOTE_MPI_MODULE");
    if (named && *named) return named;
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n > 0 ? (exe[n] = 0, strrchr(exe, '/')) : NULL;
    if (!slash) return "mote_mpi.so";
    *slash = 0;
    (void)snprintf(path, sizeof path, "%s/mote_mpi.so", exe);
    if (access(path, R_OK) != 0) (void)snprintf(path, sizeof path, "%s/../lib/mote/mote_mpi.so", exe);
    return path;
}

static bool started_by_mpirun(void) {
    static const char *const sizes[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const char *n = getenv(sizes[i]);
        if (n && strtol(n, NULL, 10) > 1) return true;
    }
    return false;
}

/* Cut in place where what follows the last colon is a number. */
static void split_weight(char *text, mote_train_source *s) {
    char *colon = strrchr(text, ':'), *end;
    s->path = text;
    if (!colon || !colon[1]) return;
    double w = strtod(colon + 1, &end);
    if (*end || !(w > 0)) return;
    *colon = 0;
    s->weight = w;
}

int train_sources_split(const cli_list *given, mote_train_source *out) {
    for (size_t i = 0; i < given->n; i++) {
        char *text = strdup(given->v[i]);
        mote_error err;
        if (!text) {
            (void)cli_error(&err, MOTE_E_MEMORY, "out of memory");
            return cli_fail(&err);
        }
        split_weight(text, &out[i]);
    }
    return CLI_OK;
}

void train_sources_free(mote_train_source *sources, size_t n) {
    for (size_t i = 0; i < n; i++) free((char *)(uintptr_t)sources[i].path);
}

int train_settings_of(mote_train_settings *out, const train_flags *f) {
    const char *mask = getenv("MOTE_CPU_MASK");
    *out = (mote_train_settings){.steps = (uint64_t)f->steps, .tokens = f->tokens, .epochs = f->epochs, .max_seconds = f->max_seconds, .n_ctx = (size_t)f->ctx,
        .batch = (size_t)f->batch, .micro_batch = (size_t)f->micro_batch, .lr = f->lr, .lr_steps = f->lr_steps, .schedule = f->schedule, .warmup = f->warmup,
        .decay = f->decay, .decay_shape = f->decay_shape, .floor = f->floor, .optimizer = f->optimizer, .muon_lr = f->muon_lr,
        .beta1 = f->beta1, .beta2 = f->beta2, .eps = f->eps, .weight_decay = f->weight_decay, .decay_all = f->decay_all, .keep_zeros = f->keep_zeros, .clip = f->clip,
        .ema = f->ema, .state_bits = (int)f->state_bits, .precision = f->precision, .recompute = f->recompute, .freeze = f->freeze, .n_threads = (int)f->threads,
        .isa = f->cpu_mask ? f->cpu_mask : mask && *mask ? mask : NULL, .seed = (uint64_t)f->seed, .dir = f->dir,
        .save_every = (uint64_t)f->save_every, .keep = (size_t)f->keep, .eval_every = (uint64_t)f->eval_every, .on_nan = f->on_nan};
    if (!started_by_mpirun()) return CLI_OK;
    out->mpi_module = mpi_module();
    if (access(out->mpi_module, R_OK) == 0) return CLI_OK;
    cli_say("started by mpirun, but there is no %s: mote was built without MPI (package libopenmpi-dev)", out->mpi_module);
    return CLI_IO;
}

const char *train_duration(char out[32], double seconds) {
    long long s = seconds > 0 && seconds < 1e9 ? (long long)seconds : 0;
    if (s >= 3600) (void)snprintf(out, 32, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
    else (void)snprintf(out, 32, "%lld:%02lld", s / 60, s % 60);
    return out;
}

/* ---- progress ---- */
static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    interrupted = 1;
    (void)signal(sig, SIG_DFL); /* the second one ends the program */
}

static bool stop(void *ctx) {
    (void)ctx;
    return interrupted;
}

static void line(void *ctx, const char *text) {
    const train_view *v = ctx;
    if (v->terminal && v->shown_ms) (void)fputs("\r\033[K", stderr);
    cli_say("%s", text);
}

static uint64_t now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void progress(void *ctx, const mote_train_progress *p) {
    train_view *v = ctx;
    char left[32], held[48] = "", share[48] = "";
    bool evaluated = !isnan(p->eval_loss), last = p->step >= p->steps;
    uint64_t now = now_ms();
    if (evaluated) v->eval_loss = p->eval_loss;
    if (v->quiet || (v->terminal ? now - v->shown_ms < 200 && !evaluated : !evaluated && !last)) return;
    v->shown_ms = now;
    if (!isnan(v->eval_loss)) (void)snprintf(held, sizeof held, "  held out %.4f", v->eval_loss);
    if (p->machine_share > 0) (void)snprintf(share, sizeof share, " (%.0f %% of the machine)", 100 * p->machine_share);
    if (v->terminal) (void)fputs("\r\033[K", stderr);
    (void)fprintf(stderr, "step %" PRIu64 "/%" PRIu64 "  loss %.4f%s  %.0f tok/s%s  %s left", p->step, p->steps, p->loss, held, p->tokens_per_s,
                  share, train_duration(left, p->seconds_left));
    if (!v->terminal || p->sample) (void)fputc('\n', stderr);
    if (p->sample) (void)fprintf(stderr, "  | %s\n", p->sample);
    (void)fflush(stderr);
}

mote_train_callbacks train_view_start(train_view *v, const train_flags *f) {
    struct sigaction act = {.sa_handler = on_signal};
    (void)sigemptyset(&act.sa_mask);
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    *v = (train_view){.quiet = f->quiet, .terminal = isatty(STDERR_FILENO), .eval_loss = (double)NAN};
    return (mote_train_callbacks){v, progress, line, stop};
}

void train_view_end(train_view *v) {
    if (v->terminal && v->shown_ms) (void)fputs("\r\033[K", stderr);
}
