/* ranks_mpi.c: the module of processes for MPI, opened by ranks.c when a program was started by mpirun. */
#include "train/ranks_module.h"

#include <mpi.h>

#define PIECE ((size_t)1 << 24) /* elements of one message */

static int start(void) {
    int given;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS) return -1;
    return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

static void end(void) { (void)MPI_Finalize(); }

static int rank(void) {
    int r = 0;
    (void)MPI_Comm_rank(MPI_COMM_WORLD, &r);
    return r;
}

static int size(void) {
    int n = 1;
    (void)MPI_Comm_size(MPI_COMM_WORLD, &n);
    return n;
}

static int share_as(void *p, size_t n, size_t bytes, MPI_Datatype type) {
    for (size_t at = 0; at < n; at += PIECE) {
        int s = MPI_Bcast((char *)p + at * bytes, (int)(n - at < PIECE ? n - at : PIECE), type, 0, MPI_COMM_WORLD);
        if (s != MPI_SUCCESS) return s;
    }
    return 0;
}

/* Added up in one process and sent to all: MPI_Allreduce may give each process other bits. */
static int sum_as(void *p, size_t n, size_t bytes, MPI_Datatype type) {
    int first = rank() == 0;
    for (size_t at = 0; at < n; at += PIECE) {
        void *x = (char *)p + at * bytes;
        int count = (int)(n - at < PIECE ? n - at : PIECE);
        int s = MPI_Reduce(first ? MPI_IN_PLACE : x, first ? x : NULL, count, type, MPI_SUM, 0, MPI_COMM_WORLD);
        if (s != MPI_SUCCESS) return s;
    }
    return share_as(p, n, bytes, type);
}

static int sum_f32(float *x, size_t n) { return sum_as(x, n, sizeof *x, MPI_FLOAT); }
static int sum_f64(double *x, size_t n) { return sum_as(x, n, sizeof *x, MPI_DOUBLE); }
static int share(void *p, size_t n) { return share_as(p, n, 1, MPI_BYTE); }

__attribute__((visibility("default"))) const ranks_module *mote_ranks_module(void);
const ranks_module *mote_ranks_module(void) {
    static const ranks_module m = {RANKS_MODULE_VERSION, start, end, rank, size, sum_f32, sum_f64, share};
    return &m;
}
