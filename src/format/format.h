/* format.h: model files.
 *
 * Whatever is on disk (GGUF in one file or many, a Hugging Face folder), the rest of mote sees one thing:
 * a model_file, shaped like GGUF: typed key/value metadata and named tensors whose bytes lie in memory.
 * A Hugging Face folder is given GGUF's names, keys and layouts while it is opened (hf.c), so running it and
 * converting it are the same code.
 *
 * Readers take (bytes, length) and trust nothing: every count, length, offset and product is checked against
 * what is left before anything is allocated or touched. A model_file is immutable after it is opened.
 * Thread: any, once open. */
#ifndef MOTE_FORMAT_FORMAT_H
#define MOTE_FORMAT_FORMAT_H

#include "base/base.h"
#include "quant/quant.h"

#define TENSOR_DIMS_MAX 4

typedef enum kv_type { /* numbers are GGUF's */
    KV_U8 = 0, KV_I8 = 1, KV_U16 = 2, KV_I16 = 3, KV_U32 = 4, KV_I32 = 5, KV_F32 = 6, KV_BOOL = 7,
    KV_STRING = 8, KV_ARRAY = 9, KV_U64 = 10, KV_I64 = 11, KV_F64 = 12
} kv_type;

/* One metadata entry. Scalars: integers and bools in i (u64 as bits), floats in f. Arrays: element type and
 * count; elements are read with kv_at_*. */
typedef struct kv {
    str key;
    kv_type type;
    int64_t i;
    double f;
    str s;
    kv_type elem;
    uint64_t count;
    const unsigned char *elems; /* fixed-size elements, little-endian, unaligned */
    const str *strings;         /* elem == KV_STRING */
} kv;

/* How a tensor's values follow from the numbers s of a Hugging Face folder's file; VALUE_SAME in a GGUF file. */
typedef enum value_form { VALUE_SAME, VALUE_PLUS_ONE /* 1 + s */, VALUE_MINUS_EXP /* -exp(s) */, VALUE_OTHER } value_form;

/* A tensor: ne[0] is the fastest dimension (the row length); unused dimensions are 1. */
typedef struct tensor_info {
    str name;
    quant_type type;
    int n_dims;
    uint64_t ne[TENSOR_DIMS_MAX];
    const unsigned char *data; /* size bytes, valid while the model_file is open; maybe unaligned */
    size_t size;
    str coded;  /* the entropy-coded bytes in the file that data was decoded from (docs/formats/coded.md), else empty */
    str origin; /* the name in the source file when it differs (Hugging Face), else equal to name */
    value_form form;
} tensor_info;

typedef struct model_file model_file;

/* VOCAB: a Hugging Face folder also gets the tokenizer.ggml.* arrays of a GGUF (for converting; who runs the model
 * reads tokenizer.json itself). NO_DATA: names and shapes are wanted alone; entropy-coded tensors are not decoded, their data are NULL. STACKED: an
 * embedding in parts of rows (stack.c) stays in them, as it does with NO_DATA; else it is one matrix in f32. RAW: a GGUF's entries as they lie there,
 * with what is coded or shared left so. */
enum { MODEL_FILE_NO_MMAP = 1, MODEL_FILE_NO_TENSORS_OK = 2, MODEL_FILE_VOCAB = 4, MODEL_FILE_NO_DATA = 8, MODEL_FILE_STACKED = 16, MODEL_FILE_RAW = 32 };
/* Opens a GGUF file (the first or any part of a split one: the others are found beside it), or a folder in
 * Hugging Face form. *out is owned by the caller. */
mote_status model_file_open(model_file **out, const char *path, int flags, mote_error *err);
void model_file_close(model_file **f);
/* GGUF from memory (no split files); data must outlive *out. This is the entry point that is fuzzed. */
mote_status gguf_parse(model_file **out, const unsigned char *data, size_t n, mote_error *err);

size_t model_file_n_kv(const model_file *f);
const kv *model_file_kv(const model_file *f, size_t i);
const kv *model_file_find(const model_file *f, const char *key); /* NULL when absent */
size_t model_file_n_tensors(const model_file *f);
const tensor_info *model_file_tensor(const model_file *f, size_t i);
const tensor_info *model_file_find_tensor(const model_file *f, const char *name); /* hashed; NULL when absent */
/* The parts of an embedding that lies in several (stack.c), where the file was opened with STACKED: 0 or 2 to 4. */
enum { MODEL_FILE_PARTS_MAX = 4 };
size_t model_file_parts(const model_file *f, const tensor_info *out[MODEL_FILE_PARTS_MAX]);
const char *model_file_part_name(size_t i);
/* An embedding in parts as it is wanted. n: 0, or 2 to 4. */
typedef struct embedding_parts {
    uint64_t rows[MODEL_FILE_PARTS_MAX]; /* the last: 0, what is left */
    quant_type type[MODEL_FILE_PARTS_MAX];
    size_t n;
} embedding_parts;
/* Says how many rows the last part has. E_USAGE: the embedding has not so many; E_UNSUPPORTED: there is no embedding in one piece, an output
 * matrix stands beside it, or rows are no multiple of a part's blocks. */
mote_status model_file_fit_parts(const model_file *f, embedding_parts *p, mote_error *err);
/* Divides the embedding of a file that was just opened, into parts that fit. E_MEMORY. */
mote_status model_file_stack(model_file *f, const embedding_parts *p, mote_error *err);
const char *model_file_path(const model_file *f);
uint64_t model_file_bytes(const model_file *f); /* size on disk, all parts */
/* Gives back the pages of mapped files that have been read so far; they are read again when they are needed. */
void model_file_rest(const model_file *f);
/* The folder's tokenizer.json text for a Hugging Face folder, {NULL,0} otherwise. */
str model_file_tokenizer_json(const model_file *f);
/* A Hugging Face folder's tokenizer_config.json, or {NULL,0}. */
str model_file_tokenizer_config(const model_file *f);

/* Typed access. A scalar of a compatible kind converts (any integer, bool, float to double). Absent: the
 * default, and MOTE_OK. Wrong type or out of range: an error that names the key. */
mote_status kv_get_u32(const model_file *f, const char *key, uint32_t *v, uint32_t otherwise, mote_error *err);
mote_status kv_get_f32(const model_file *f, const char *key, float *v, float otherwise, mote_error *err);
mote_status kv_get_bool(const model_file *f, const char *key, bool *v, bool otherwise, mote_error *err);
mote_status kv_get_str(const model_file *f, const char *key, str *v, str otherwise, mote_error *err);
/* Elements of an array kv; i must be below count. */
str kv_at_str(const kv *k, uint64_t i);
bool kv_at_int(const kv *k, uint64_t i, int64_t *v); /* false when elements are not integers or bools */
bool kv_at_num(const kv *k, uint64_t i, double *v);  /* integers convert */

/* Writing GGUF v3: declare everything, then stream the tensors' bytes in the order of declaration. */
typedef struct gguf_writer gguf_writer;
mote_status gguf_writer_open(gguf_writer **out, const char *path, uint32_t alignment, mote_error *err);
/* What metadata and the table of tensors of f take in a GGUF file, without padding. */
uint64_t gguf_header_bytes(const model_file *f);
mote_status gguf_put_kv(gguf_writer *w, const kv *k, mote_error *err); /* copies; replaces an equal key */
mote_status gguf_put_u32(gguf_writer *w, const char *key, uint32_t v, mote_error *err);
mote_status gguf_put_f32(gguf_writer *w, const char *key, float v, mote_error *err);
mote_status gguf_put_bool(gguf_writer *w, const char *key, bool v, mote_error *err);
mote_status gguf_put_str(gguf_writer *w, const char *key, str v, mote_error *err);
mote_status gguf_put_tensor(gguf_writer *w, str name, quant_type type, int n_dims, const uint64_t *ne, mote_error *err);
/* Writes the header; afterwards exactly the declared bytes follow, tensor by tensor. */
mote_status gguf_writer_begin(gguf_writer *w, mote_error *err);
mote_status gguf_write_data(gguf_writer *w, const void *p, size_t n, mote_error *err);
mote_status gguf_writer_commit(gguf_writer *w, mote_error *err); /* pads, fsync, rename */
void gguf_writer_close(gguf_writer **w);                         /* aborts when not committed */

/* safetensors from memory: header checked as the reference does (no holes, no overlap, exact spans). */
typedef struct st_tensor {
    str name;
    str dtype; /* "F32", "BF16", … */
    int n_dims;
    uint64_t shape[8]; /* outermost first */
    const unsigned char *data;
    size_t size;
} st_tensor;
typedef struct st_file st_file;
mote_status st_parse(st_file **out, const unsigned char *data, size_t n, mote_error *err);
void st_close(st_file **f);
size_t st_n_tensors(const st_file *f);
const st_tensor *st_tensor_at(const st_file *f, size_t i);
const st_tensor *st_find(const st_file *f, const char *name);
const json_t *st_metadata(const st_file *f); /* NULL when there is none */

/* safetensors out (gradients, adapters): names, dtypes and shapes first, then the bytes. */
mote_status st_write(const char *path, const st_tensor *tensors, size_t n, const json_t *metadata, mote_error *err);

#endif
