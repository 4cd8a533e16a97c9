/* hf_tokenizer.c: tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja to
 * tokenizer.* keys.
 *
 * The chat template and the ids of special tokens are always given; the vocabulary itself (slow to build, and
 * not needed by who reads tokenizer.json directly) only with MODEL_FILE_VOCAB. */
#include "format/hf_vocab.h"

#include <stdio.h>

static mote_status put_templates(hf *h, const json_t *config, mote_error *err) {
    str text;
    TRY(hf_read_text(h, "chat_template.jinja", &text, err));
    if (text.p) return hf_put_str(h, "tokenizer.chat_template", text, err);
    const json_t *t = json_object_get(config, "chat_template");
    if (json_is_string(t))
        return hf_put_str(h, "tokenizer.chat_template", (str){json_string_value(t), json_string_length(t)}, err);
    size_t n = json_array_size(t), named = 0;
    str *names = ARENA_NEW_N(&h->f->mem, str, n);
    if (!names) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        str name = json_get_str(json_array_get(t, i), "name"), one = json_get_str(json_array_get(t, i), "template");
        char key[128] = "tokenizer.chat_template";
        if (!name.p || !one.p || name.n > 64 || memchr(name.p, 0, name.n)) continue;
        if (!str_is(name, "default")) {
            (void)snprintf(key, sizeof key, "tokenizer.chat_template.%.*s", (int)name.n, name.p);
            names[named++] = (str){arena_dup(&h->f->mem, name), name.n};
        }
        TRY(hf_put_str(h, key, one, err));
    }
    if (!named) return MOTE_OK;
    return hf_put_kv(h, "tokenizer.chat_templates",
                     (kv){.type = KV_ARRAY, .elem = KV_STRING, .count = named, .strings = names}, err);
}

/* "x_token" is a string, or an object with its text in "content". */
static str token_text(const json_t *config, const char *name) {
    const json_t *v = json_object_get(config, name);
    if (json_is_object(v)) return json_get_str(v, "content");
    return json_is_string(v) ? (str){json_string_value(v), json_string_length(v)} : (str){NULL, 0};
}

static bool id_of(const json_t *tokenizer, str text, int64_t *id) {
    const json_t *added = json_object_get(tokenizer, "added_tokens"), *v;
    for (size_t i = 0; i < json_array_size(added); i++) {
        v = json_array_get(added, i);
        if (str_eq(json_get_str(v, "content"), text)) {
            *id = json_get_int(v, "id", -1);
            return *id >= 0;
        }
    }
    const json_t *vocab = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    *id = text.n && json_is_object(vocab) && !memchr(text.p, 0, text.n) ? json_get_int(vocab, text.p, -1) : -1;
    return *id >= 0;
}

/* config.json and generation_config.json give an id or a list of them. */
static bool first_id(const json_t *v, int64_t *id) {
    if (json_is_array(v)) v = json_array_get(v, 0);
    if (!json_is_integer(v) || json_integer_value(v) < 0) return false;
    *id = json_integer_value(v);
    return true;
}

static mote_status put_special(hf *h, const json_t *tokenizer, const json_t *config, const json_t *generation,
                               mote_error *err) {
    static const struct {
        const char *token, *id, *key;
    } special[] = {
        {"bos_token", "bos_token_id", "tokenizer.ggml.bos_token_id"},
        {"eos_token", "eos_token_id", "tokenizer.ggml.eos_token_id"},
        {"unk_token", "unk_token_id", "tokenizer.ggml.unknown_token_id"},
        {"sep_token", "sep_token_id", "tokenizer.ggml.seperator_token_id"}, /* spelled so in GGUF */
        {"pad_token", "pad_token_id", "tokenizer.ggml.padding_token_id"},
        {"cls_token", "cls_token_id", "tokenizer.ggml.cls_token_id"},
        {"mask_token", "mask_token_id", "tokenizer.ggml.mask_token_id"},
    };
    for (size_t i = 0; i < COUNT_OF(special); i++) {
        int64_t id = -1;
        str text = token_text(config, special[i].token);
        if (!(text.n && id_of(tokenizer, text, &id)) && !first_id(hf_get(h, special[i].id), &id) &&
            !first_id(json_object_get(generation, special[i].id), &id))
            continue;
        if (id < h->n_vocab) TRY(hf_put_u32(h, special[i].key, (uint32_t)id, err));
    }
    return MOTE_OK;
}

/* Whether a text begins and ends with BOS and EOS: tokenizer_config.json says so, or the post-processor's
 * template for one text does. */
static mote_status put_add_tokens(hf *h, const json_t *tokenizer, const json_t *config, mote_error *err) {
    static const char *const flags[2] = {"add_bos_token", "add_eos_token"};
    static const char *const keys[2] = {"tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"};
    static const char *const tokens[2] = {"bos_token", "eos_token"};
    const json_t *post = json_object_get(tokenizer, "post_processor"), *single = json_object_get(post, "single");
    const json_t *parts = json_object_get(post, "processors");
    for (size_t i = 0; !single && i < json_array_size(parts); i++)
        single = json_object_get(json_array_get(parts, i), "single");
    for (int end = 0; end < 2; end++) {
        const json_t *flag = json_object_get(config, flags[end]);
        size_t n = json_array_size(single);
        str text = token_text(config, tokens[end]);
        if (json_is_boolean(flag)) TRY(hf_put_bool(h, keys[end], json_is_true(flag), err));
        else if (n && text.n) {
            const json_t *outer = json_object_get(json_array_get(single, end ? n - 1 : 0), "SpecialToken");
            TRY(hf_put_bool(h, keys[end], str_eq(json_get_str(outer, "id"), text), err));
        }
    }
    return MOTE_OK;
}

/* generation_config.json's recommendations, in llama.cpp's keys. */
static mote_status put_sampling(hf *h, const json_t *generation, mote_error *err) {
    static const struct {
        const char *from, *to;
        bool whole;
    } all[] = {{"temperature", "general.sampling.temp", false}, {"top_k", "general.sampling.top_k", true}, {"top_p", "general.sampling.top_p", false},
               {"min_p", "general.sampling.min_p", false}, {"repetition_penalty", "general.sampling.penalty_repeat", false}};
    for (size_t i = 0; i < COUNT_OF(all); i++) {
        const json_t *v = json_object_get(generation, all[i].from);
        if (all[i].whole ? !json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > INT32_MAX : !json_is_number(v)) continue;
        TRY(all[i].whole ? hf_put_kv(h, all[i].to, (kv){.type = KV_I32, .i = json_integer_value(v)}, err) : hf_put_f32(h, all[i].to, json_number_value(v), err));
    }
    return MOTE_OK;
}

mote_status hf_put_tokenizer(hf *h, mote_error *err) {
    json_t *tokenizer = NULL, *config = NULL, *generation = NULL;
    str text;
    mote_status s = MOTE_OK;
    if (h->f->tokenizer_config.p)
        TRYG(s, hf_parse_json(h, h->f->tokenizer_config, "tokenizer_config.json", &config, err));
    TRYG(s, hf_read_text(h, "generation_config.json", &text, err));
    if (text.p) TRYG(s, hf_parse_json(h, text, "generation_config.json", &generation, err));
    if (h->f->tokenizer_json.p && (h->flags & MODEL_FILE_VOCAB))
        TRYG(s, json_parse(&tokenizer, h->f->tokenizer_json, "tokenizer.json", err));
    TRYG(s, put_templates(h, config, err));
    TRYG(s, put_sampling(h, generation, err));
    if (tokenizer) TRYG(s, hf_put_vocab(h, tokenizer, err));
    else if (!h->f->tokenizer_json.p) {
        TRYG(s, hf_read_text(h, "tokenizer.model", &text, err));
        if (text.p) TRYG(s, hf_put_spm(h, text, config, err));
        else TRYG(s, hf_put_str(h, "tokenizer.ggml.model", STR("none"), err));
    }
    TRYG(s, put_special(h, tokenizer, config, generation, err));
    if (tokenizer || !h->f->tokenizer_json.p) TRYG(s, put_add_tokens(h, tokenizer, config, err));
out:
    json_decref(tokenizer);
    json_decref(config);
    json_decref(generation);
    return s;
}
