/* kernels.c: hands the kernel table to the model, which knows nothing else of it. */
#include "tensor/tensor.h"

#include "kernel/kernel.h"

const struct kern_table *tensor_kernels_open(uint32_t cpu_mask) {
    kern_table *t = mem_alloc_aligned(sizeof *t);
    if (t) kern_table_init(t, cpu_mask);
    return t;
}

void tensor_kernels_close(const struct kern_table **k) {
    union {
        const struct kern_table *in;
        void *out;
    } u = {*k};
    mem_free_aligned(u.out);
    *k = NULL;
}

const char *tensor_kernels_rung(const struct kern_table *k) { return k->rung; }
