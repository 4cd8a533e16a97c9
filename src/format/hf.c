/* hf.c: a Hugging Face folder, opened as a model_file.
 *
 * config.json says what it is; the weights are in model.safetensors or in the files that
 * model.safetensors.index.json names; tokenizer.json and its companions give the vocabulary. Everything gets
 * GGUF's names, keys and layouts here. Tensors that need no change stay views of the mapped files. */
#include "format/hf_quantized.h"

#include <stdio.h>

#define TEXT_BYTES_MAX ((size_t)256 << 20)
#define SHARDS_MAX 4096

mote_status hf_read_text(hf *h, const char *name, str *text, mote_error *err) {
    *text = (str){NULL, 0};
    file_map m;
    mote_status s = file_open_at(&m, h->dir, name, FILE_READ, err);
    if (s == MOTE_E_NOT_FOUND) return MOTE_OK;
    TRY(s);
    if (m.n > TEXT_BYTES_MAX) {
        file_close(&m);
        FAIL(err, MOTE_E_LIMIT, "%s: larger than %zu bytes", name, TEXT_BYTES_MAX);
    }
    char *copy = arena_dup(&h->f->mem, (str){(const char *)m.p, m.n});
    *text = (str){copy, m.n};
    h->f->bytes += m.n;
    file_close(&m);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

/* Python's json writes NaN, Infinity and -Infinity, which are not JSON. */
mote_status hf_parse_json(hf *h, str text, const char *name, json_t **out, mote_error *err) {
    static const struct {
        const char *word;
        size_t n;
        const char *instead;
    } words[] = {{"-Infinity", 9, "null     "}, {"Infinity", 8, "null    "}, {"NaN", 3, "0  "}};
    char *copy = arena_dup(&h->f->mem, text);
    if (!copy) FAIL(err, MOTE_E_MEMORY, "out of memory");
    bool in_string = false;
    for (size_t i = 0; i < text.n; i++) {
        if (copy[i] == '\\' && in_string) i++;
        else if (copy[i] == '"') in_string = !in_string;
        else if (!in_string && (copy[i] == 'N' || copy[i] == 'I' || copy[i] == '-'))
            for (size_t w = 0; w < COUNT_OF(words); w++)
                if (text.n - i >= words[w].n && memcmp(copy + i, words[w].word, words[w].n) == 0)
                    memcpy(copy + i, words[w].instead, words[w].n);
    }
    return json_parse(out, (str){copy, text.n}, name, err);
}

static mote_status read_config(hf *h, mote_error *err) {
    str text;
    TRY(hf_read_text(h, "config.json", &text, err));
    if (!text.p) FAIL(err, MOTE_E_NOT_FOUND, "no config.json: not a Hugging Face model folder (nor a GGUF file)");
    TRY(hf_parse_json(h, text, "config.json", &h->root, err));
    if (!json_is_object(h->root)) FAIL(err, MOTE_E_FORMAT, "config.json is not an object");
    static const char *const parts[] = {"text_config", "llm_config", "language_config"};
    h->cfg = h->root;
    for (size_t i = 0; i < COUNT_OF(parts); i++)
        if (json_is_object(json_object_get(h->root, parts[i]))) {
            h->cfg = json_object_get(h->root, parts[i]);
            break;
        }
    TRY(hf_check_quantized(h, err));
    return hf_find_arch(h->root, h->cfg, &h->arch, err);
}

static mote_status open_shard(hf *h, const char *name, mote_error *err) {
    model_file *f = h->f;
    if (f->n_maps == SHARDS_MAX) FAIL(err, MOTE_E_LIMIT, "more than %d weight files", SHARDS_MAX);
    file_map *maps = mem_resize(f->maps, f->n_maps + 1, sizeof *maps);
    if (!maps) FAIL(err, MOTE_E_MEMORY, "out of memory");
    f->maps = maps;
    st_file **st = mem_resize(f->st, f->n_st + 1, sizeof(st_file *));
    if (!st) FAIL(err, MOTE_E_MEMORY, "out of memory");
    f->st = st;
    file_map *m = &f->maps[f->n_maps];
    TRY(file_open_at(m, h->dir, name, h->flags & MODEL_FILE_NO_MMAP ? FILE_READ : FILE_MAP, err));
    f->n_maps++;
    f->bytes += m->n;
    if (m->n > 24 && memcmp(m->p, "version https://git-lfs", 23) == 0)
        FAIL(err, MOTE_E_FORMAT, "%s is a Git LFS pointer: fetch the real file with 'git lfs pull'", name);
    mote_status s = st_parse(&f->st[f->n_st], m->p, m->n, err);
    if (s != MOTE_OK) return err_prefix(err, s, "%s", name);
    f->n_st++;
    return MOTE_OK;
}

/* Each distinct file of the index's weight_map, once. */
static mote_status open_index(hf *h, str text, mote_error *err) {
    json_t *index, *map;
    TRY(json_parse(&index, text, "model.safetensors.index.json", err));
    mote_status s = MOTE_OK;
    const char *tensor, *seen[SHARDS_MAX];
    json_t *file;
    size_t n = 0;
    map = json_object_get(index, "weight_map");
    if (!json_is_object(map))
        FAILG(s, err, MOTE_E_FORMAT, "model.safetensors.index.json has no object 'weight_map'");
    json_object_foreach(map, tensor, file) {
        size_t i = 0;
        const char *name = json_string_value(file);
        if (!name || strlen(name) != json_string_length(file))
            FAILG(s, err, MOTE_E_FORMAT, "model.safetensors.index.json: the file of '%.100s' is no file name", tensor);
        while (i < n && strcmp(seen[n - 1 - i], name) != 0) i++;
        if (i < n) continue;
        if (n == SHARDS_MAX) FAILG(s, err, MOTE_E_LIMIT, "more than %d weight files", SHARDS_MAX);
        seen[n++] = name;
        TRYG(s, open_shard(h, name, err));
    }
out:
    json_decref(index);
    return s;
}

static mote_status open_weights(hf *h, mote_error *err) {
    str index;
    TRY(hf_read_text(h, "model.safetensors.index.json", &index, err));
    if (index.p) return open_index(h, index, err);
    mote_status s = open_shard(h, "model.safetensors", err);
    if (s != MOTE_E_NOT_FOUND) return s;
    static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json", "consolidated.00.pth",
                                          "model.pt", "model.ckpt", "pytorch_model-00001-of-00002.bin"};
    char path[4096];
    for (size_t i = 0; i < COUNT_OF(pickles); i++) {
        file_map m;
        (void)snprintf(path, sizeof path, "%s/%s", h->dir, pickles[i]);
        if (file_open(&m, path, FILE_MAP, NULL) != MOTE_OK) continue;
        file_close(&m);
        FAIL(err, MOTE_E_UNSUPPORTED, "only %s is there, a Python pickle, which can run code and is never loaded: "
             "convert it once with transformers' save_pretrained(…, safe_serialization=True)", pickles[i]);
    }
    return s; /* model.safetensors: not found */
}

str hf_relative_name(str name) {
    static const char *const other[] = {
        "vision_tower.", "vision_model.", "visual.", "model.visual.", "model.vision_tower.", "model.vision_model.",
        "multi_modal_projector.", "model.multi_modal_projector.", "audio_tower.", "model.audio_tower.", "mm_projector.",
        "mtp.", "model.mtp.", "model.mtp_block.", "model.mtp_emb_norm.", "model.mtp_hidden_norm.", "model.mtp_linear_proj.",
        "model.connector.", "connector.", "pooler.", "bert.pooler.", "cls.",
    };
    static const char *const roots[] = {
        "model.language_model.model.", "model.language_model.", "language_model.model.", "language_model.", "model.text_model.",
        "model.backbone.", "model.decoder.", "model.", "transformer.", "gpt_neox.", "backbone.", "bert.", "rwkv.",
    };
    for (size_t i = 0; i < COUNT_OF(other); i++)
        if (str_starts(name, str_of(other[i]))) return (str){NULL, 0};
    for (size_t i = 0; i < COUNT_OF(roots); i++) {
        str root = str_of(roots[i]);
        if (str_starts(name, root)) return str_sub(name, root.n, name.n - root.n);
    }
    return name;
}

static mote_status collect(hf *h, mote_error *err) {
    size_t n = 0;
    for (size_t s = 0; s < h->f->n_st; s++) n += st_n_tensors(h->f->st[s]);
    if (n > FORMAT_TENSORS_MAX) FAIL(err, MOTE_E_LIMIT, "more than %zu tensors", FORMAT_TENSORS_MAX);
    h->src = ARENA_NEW_N(&h->f->mem, hf_tensor, n);
    if (!h->src || !index_init(&h->src_index, &h->f->mem, n)) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t s = 0; s < h->f->n_st; s++)
        for (size_t i = 0; i < st_n_tensors(h->f->st[s]); i++) {
            const st_tensor *t = st_tensor_at(h->f->st[s], i);
            str name = hf_relative_name(t->name);
            if (!name.p) continue;
            h->src[h->n_src] = (hf_tensor){name, t};
            if (index_add(&h->src_index, h->src, sizeof *h->src, h->n_src) != INDEX_ADDED)
                FAIL(err, MOTE_E_FORMAT, "tensor '%.*s' occurs twice", STR_ARG(t->name));
            h->n_src++;
        }
    return hf_unpack(h, err);
}

static mote_status put_name(hf *h, mote_error *err) {
    str name = json_get_str(h->root, "_name_or_path");
    if (!name.n) name = str_of(h->dir);
    while (name.n > 1 && name.p[name.n - 1] == '/') name.n--;
    for (size_t i = name.n; i-- > 0;)
        if (name.p[i] == '/') {
            name = str_sub(name, i + 1, name.n - i - 1);
            break;
        }
    return hf_put_str(h, "general.name", utf8_valid(name.p, name.n) ? name : STR("model"), err);
}

mote_status hf_open_sources(hf *h, const char *dir, int flags, mote_error *err) {
    *h = (hf){.dir = dir, .flags = flags, .f = model_file_new()};
    if (!h->f) FAIL(err, MOTE_E_MEMORY, "out of memory");
    h->f->path = mem_strdup(dir);
    if (!h->f->path) FAIL(err, MOTE_E_MEMORY, "out of memory");
    TRY(read_config(h, err));
    TRY(hf_put_common(h, err));
    TRY(open_weights(h, err));
    return collect(h, err);
}

/* kvs and tensors grow while they are collected: they are not the arena's yet. */
void hf_drop(hf *h) {
    if (h->f) {
        if (h->cap_kv) mem_free(h->f->kvs);
        if (h->cap_tensors) mem_free(h->f->tensors);
        h->f->n_kv = h->f->n_tensors = 0;
        model_file_close(&h->f);
    }
    json_decref(h->root);
    h->root = NULL;
}

static mote_status build(hf *h, const char *dir, int flags, mote_error *err) {
    TRY(hf_open_sources(h, dir, flags, err));
    TRY(put_name(h, err));
    TRY(hf_read_text(h, "tokenizer.json", &h->f->tokenizer_json, err));
    TRY(hf_read_text(h, "tokenizer_config.json", &h->f->tokenizer_config, err));
    TRY(hf_put_tokenizer(h, err));
    for (size_t i = 0; i < h->n_src; i++) TRY(hf_map_tensor(h, &h->src[i], err));
    return model_file_index(h->f, err);
}

/* kvs and tensors grow while they are collected, then move to the arena like those of every model_file. */
static mote_status settle(hf *h, mote_error *err) {
    model_file *f = h->f;
    kv *kvs = ARENA_NEW_N(&f->mem, kv, f->n_kv);
    tensor_info *tensors = ARENA_NEW_N(&f->mem, tensor_info, f->n_tensors);
    if (!kvs || !tensors) FAIL(err, MOTE_E_MEMORY, "out of memory");
    if (f->n_kv) memcpy(kvs, f->kvs, f->n_kv * sizeof *kvs);
    if (f->n_tensors) memcpy(tensors, f->tensors, f->n_tensors * sizeof *tensors);
    mem_free(f->kvs);
    mem_free(f->tensors);
    f->kvs = kvs;
    f->tensors = tensors;
    return MOTE_OK;
}

mote_status hf_open(model_file **out, const char *dir, int flags, mote_error *err) {
    hf h;
    *out = NULL;
    mote_status s = build(&h, dir, flags, err);
    if (s == MOTE_OK) s = settle(&h, err);
    if (s != MOTE_OK) {
        hf_drop(&h);
        return err_prefix(err, s, "%s", dir);
    }
    json_decref(h.root);
    *out = h.f;
    return MOTE_OK;
}
