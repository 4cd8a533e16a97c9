/* tensor_int.h: what the files of src/tensor share. */
#ifndef MOTE_TENSOR_TENSOR_INT_H
#define MOTE_TENSOR_TENSOR_INT_H

#include "kernel/packed.h"
#include "kernel/split.h"
#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

enum { ROWS_AT_ONCE = 16 }; /* rows of a weight that are one unit of work: a panel */

/* One block of KV_BLOCK positions of one head as f32: K as dst[dim][16], its rows ld apart (for an odd dim one row more
 * is written), V as dst[16][dim]. */
void kv_load_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst, size_t ld);
void kv_load_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst);
/* Block `block` of K or V where it lies, for caches of pair words (f16, bf16): K as [(dim + 1) / 2][16], V as [8][dim]. The
 * blocks of a head follow one another. */
bool kv_is_paired(quant_type t);
const uint32_t *kv_words_k(const kv_layer *c, size_t head, size_t block);
const uint32_t *kv_words_v(const kv_layer *c, size_t head, size_t block);
/* The same as pair words of bf16: K as dst[(dim + 1) / 2][16], V's first n positions as dst[(n + 1) / 2][dim].
 * wide: room for a block as f32, one row more when a dimension is odd. */
void kv_pairs_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, uint32_t *dst, float *wide);
void kv_pairs_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, size_t n, uint32_t *dst, float *wide);

/* Panel i of matrix 0 of a weight in split form. */
typedef struct split_panel {
    unsigned char *high, *rest;
} split_panel;
static inline split_panel split_panel_at(const weight *w, size_t i) {
    size_t high = kern_split_high_bytes(w->split, w->cols), rest = kern_split_rest_bytes(w->split, w->cols);
    unsigned char *p = w->packed;
    return (split_panel){p + i * high, p + (w->rows + KERN_PANEL - 1) / KERN_PANEL * high + i * rest};
}

/* The product of rows [from, to) of it; m says all but the panels and their number. merged: room
 * for its panels, MERGED at most: as many rows as the matrix kernels take at once. */
enum { MERGED = 2 };
void split_multiply(const team *t, const weight *w, size_t from, size_t to, unsigned char *merged, kern_mul m);

/* Bytes that a panel of a sliced weight has in each slice: one group of blocks. */
static inline size_t weight_slice_bytes(const weight *w) {
    const kern_packing *p = w->packing;
    return kern_panel_bytes(p, kern_group_blocks(p->scales, p->span) * KERN_BLOCK);
}

/* dst (kern_panel_bytes): panel i of w, counted over all matrices, from the file's rows. */
void weight_pack_panel(const weight *w, size_t i, void *dst);
/* This thread has read panel i in the file: every few megabytes, what it has read is dropped from the mapping. */
void weight_pass_panel(team *t, const weight *w, size_t i);
/* weight_row of matrix mat. */
void weight_row_of(const weight *w, size_t mat, size_t r, float *dst);

#endif
