/* tensor_int.h: what the files of src/tensor share. */
#ifndef MOTE_TENSOR_TENSOR_INT_H
#define MOTE_TENSOR_TENSOR_INT_H

#include "kernel/packed.h"
#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

enum { ROWS_AT_ONCE = 16 }; /* rows of a weight that are one unit of work: a panel */

/* Widens one block of KV_BLOCK positions of one head: dst[dim][16] of K (positions 16 apart), dst[16][dim] of V. */
void kv_load_k(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst, size_t ld);
void kv_load_v(const kern_table *kern, const kv_layer *c, size_t head, size_t block, float *dst);

#endif
