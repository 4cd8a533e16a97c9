/* format_int.h: the inside of a model_file, shared by its readers. Nobody outside src/format includes it. */
#ifndef MOTE_FORMAT_FORMAT_INT_H
#define MOTE_FORMAT_FORMAT_INT_H

#include "format/format.h"

/* Limits on what a file may declare. Real models lie far below; beyond is an error, not a slow load. */
#define FORMAT_KV_MAX ((size_t)1 << 16)
#define FORMAT_TENSORS_MAX ((size_t)1 << 17)
#define FORMAT_STRINGS_MAX ((size_t)1 << 22) /* elements of all string arrays together */
#define FORMAT_KEY_BYTES_MAX 65535u
#define FORMAT_NAME_BYTES_MAX 255u
#define FORMAT_ALIGN_MAX (1u << 20)
#define FORMAT_ALIGN_DEFAULT 32u
#define FORMAT_PARTS_MAX 4096u
#define FORMAT_ARENA_MAX ((size_t)1 << 30)

/* Names to numbers: open addressing. Entry e is at slots[hash…] as e + 1. */
typedef struct name_index {
    uint32_t *slots;
    size_t mask; /* slot count - 1 */
} name_index;

/* A table for n names; false when out of memory. */
bool index_init(name_index *ix, arena *a, size_t n);
/* Looks name up among entries 0.. whose names stand `stride` bytes apart from *names; SIZE_MAX when absent. */
size_t index_find(const name_index *ix, const void *names, size_t stride, str name);
typedef enum index_result { INDEX_ADDED, INDEX_DUPLICATE, INDEX_CROWDED } index_result;
/* Adds entry e. CROWDED: so many colliding names that somebody made them on purpose. */
index_result index_add(name_index *ix, const void *names, size_t stride, size_t e);

/* Memory a model_file owns for a tensor that is not a view of the file. */
typedef struct owned_bytes {
    void *p; /* mem_alloc_aligned */
} owned_bytes;

struct model_file {
    arena mem; /* everything small */
    char *path;
    file_map *maps;
    size_t n_maps;
    model_file **parts; /* of a split file; this one then only joins them */
    size_t n_parts;
    kv *kvs;
    size_t n_kv;
    tensor_info *tensors;
    size_t n_tensors;
    name_index kv_index, tensor_index;
    uint64_t bytes;
    owned_bytes *owned;
    size_t n_owned, cap_owned;
    st_file **st;
    size_t n_st;
    str tokenizer_json, tokenizer_config;
};

/* Bytes of a number of this kind as it stands in a file; 0 for strings and arrays. */
size_t kv_scalar_bytes(kv_type t);
/* An empty model_file; NULL when out of memory. */
model_file *model_file_new(void);
/* Fills kv_index and tensor_index; a name that occurs twice is an error. */
mote_status model_file_index(model_file *f, mote_error *err);
/* size zeroed bytes that die with f. */
mote_status model_file_own(model_file *f, size_t size, void **p, mote_error *err);
/* Opens path, which is a regular file, and parses it as one GGUF. */
mote_status gguf_open_one(model_file **out, const char *path, int flags, mote_error *err);
/* f is part of a split file (split.count > 1): joins it with the others beside it. Takes f over; on failure
 * everything is closed. */
mote_status gguf_join_parts(model_file **out, model_file *f, const char *path, int flags, mote_error *err);
/* coded_open.c: decodes entropy-coded tensors; data false: their names and shapes alone. */
mote_status model_file_uncode(model_file *f, bool data, mote_error *err);
/* small_vocabulary.c: the lists of a vocabulary that is stored small. */
mote_status model_file_open_vocabulary(model_file *f, mote_error *err);
/* share.c: gives layers that share tensors with others their own view of them. */
mote_status model_file_unshare(model_file *f, mote_error *err);
/* stack.c: makes one matrix of an embedding in parts. */
mote_status model_file_unstack(model_file *f, mote_error *err);
/* A Hugging Face folder. */
mote_status hf_open(model_file **out, const char *dir, int flags, mote_error *err);

#endif
