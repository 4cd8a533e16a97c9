/* eval_tasks.c: the table of tasks: from a document with its data set's fields to prompts, choices and the right answer.
 * Prompts are lm-evaluation-harness's (tasks/NAME/NAME.yaml of version 0.4). */
#include "run/eval_tasks.h"

#include <stdlib.h>
#include <string.h>

/* ---- fields ---- */
static mote_status text_of(const json_t *doc, const char *key, str *out, mote_error *err) {
    const json_t *v = json_object_get(doc, key);
    if (!json_is_string(v)) FAIL(err, MOTE_E_FORMAT, "an item has no text '%s'", key);
    *out = (str){json_string_value(v), json_string_length(v)};
    return MOTE_OK;
}

/* A number, also as text ("1") or a truth value. */
static mote_status number_of(const json_t *doc, const char *key, int64_t *out, mote_error *err) {
    const json_t *v = json_object_get(doc, key);
    if (json_is_integer(v)) *out = json_integer_value(v);
    else if (json_is_boolean(v)) *out = json_is_true(v);
    else if (!json_is_string(v) || !str_to_i64((str){json_string_value(v), json_string_length(v)}, out))
        FAIL(err, MOTE_E_FORMAT, "an item has no number '%s'", key);
    return MOTE_OK;
}

static mote_status set_gold(eval_item *it, int64_t gold, mote_error *err) {
    if (gold < 0 || (size_t)gold >= it->n) FAIL(err, MOTE_E_RANGE, "the right choice is number %lld of %zu", (long long)gold, it->n);
    it->gold = (size_t)gold;
    return MOTE_OK;
}

/* Texts put together, in the item's arena. */
static mote_status join(arena *a, str *out, mote_error *err, size_t n, const str *parts) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) size += parts[i].n;
    char *p = arena_alloc(a, size + 1, 1);
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    *out = (str){p, size};
    for (size_t i = 0; i < n; i++) {
        memcpy(p, parts[i].p, parts[i].n);
        p += parts[i].n;
    }
    return MOTE_OK;
}
#define JOIN(a, out, err, ...) join((a), (out), (err), sizeof((str[]){__VA_ARGS__}) / sizeof(str), (str[]){__VA_ARGS__})

static mote_status same_prompt(eval_item *it, arena *a, mote_error *err, str head, str body, str tail) {
    TRY(JOIN(a, &it->prompts[0], err, head, body, tail));
    for (size_t i = 1; i < it->n; i++) it->prompts[i] = it->prompts[0];
    return MOTE_OK;
}

/* A list of texts as the choices. */
static mote_status choices_of(eval_item *it, const json_t *list, mote_error *err) {
    it->n = json_array_size(list);
    if (it->n == 0 || it->n > EVAL_CHOICES_MAX) FAIL(err, MOTE_E_FORMAT, "an item has %zu choices, expected 1 to %d", it->n, EVAL_CHOICES_MAX);
    for (size_t i = 0; i < it->n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v)) FAIL(err, MOTE_E_FORMAT, "choice %zu of an item is no text", i);
        it->choices[i] = (str){json_string_value(v), json_string_length(v)};
    }
    return MOTE_OK;
}

/* ---- ARC, OpenBookQA: choices {text: [], label: []}, or a list of {text, label} under the question ---- */
static mote_status labelled(eval_item *it, const json_t *doc, const json_t *choices, mote_error *err) {
    str key, label;
    int64_t gold = -1;
    TRY(text_of(doc, "answerKey", &key, err));
    key = py_strip(key);
    bool columns = json_is_object(choices);
    if (columns) TRY(choices_of(it, json_object_get(choices, "text"), err));
    else {
        it->n = json_array_size(choices);
        if (it->n == 0 || it->n > EVAL_CHOICES_MAX) FAIL(err, MOTE_E_FORMAT, "an item has %zu choices, expected 1 to %d", it->n, EVAL_CHOICES_MAX);
        for (size_t i = 0; i < it->n; i++) TRY(text_of(json_array_get(choices, i), "text", &it->choices[i], err));
    }
    for (size_t i = 0; i < it->n; i++) {
        const json_t *v = columns ? json_array_get(json_object_get(choices, "label"), i) : json_object_get(json_array_get(choices, i), "label");
        label = (str){json_string_value(v), json_string_length(v)};
        if (label.p && str_eq(label, key)) gold = (int64_t)i;
    }
    return set_gold(it, gold, err);
}

static mote_status question(const json_t *doc, const char *flat, str *out, const json_t **choices, mote_error *err) {
    const json_t *q = json_object_get(doc, "question");
    *choices = json_object_get(json_is_object(q) ? q : doc, "choices");
    return json_is_object(q) ? text_of(q, "stem", out, err) : text_of(doc, flat, out, err);
}

static mote_status arc_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    const json_t *choices;
    str q;
    TRY(question(doc, "question", &q, &choices, err));
    TRY(labelled(it, doc, choices, err));
    return same_prompt(it, a, err, STR("Question: "), q, STR("\nAnswer:"));
}

static mote_status openbookqa_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    const json_t *choices;
    str q;
    TRY(question(doc, "question_stem", &q, &choices, err));
    TRY(labelled(it, doc, choices, err));
    return same_prompt(it, a, err, STR(""), q, STR(""));
}

/* ---- HellaSwag: brackets are left-overs of WikiHow ---- */
static mote_status clean(arena *a, str s, str *out, mote_error *err) {
    static const str title = {" [title]", 8};
    s = py_strip(s);
    char *p = arena_alloc(a, s.n * 2 + 1, 1), *end = p;
    if (!p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < s.n;) { /* " [title]" -> ". " */
        bool is = str_starts(str_sub(s, i, s.n - i), title);
        if (is) {
            *end++ = '.';
            *end++ = ' ';
        } else *end++ = s.p[i];
        i += is ? title.n : 1;
    }
    size_t n = (size_t)(end - p), k = 0;
    for (size_t i = 0; i < n;) { /* [anything on one line] -> nothing */
        size_t j = i;
        if (p[i] == '[')
            while (j < n && p[j] != ']' && p[j] != '\n') j++;
        if (p[i] == '[' && j < n && p[j] == ']') i = j + 1;
        else p[k++] = p[i++];
    }
    n = k;
    k = 0;
    for (size_t i = 0; i < n; k++) { /* two spaces -> one, once */
        p[k] = p[i];
        i += i + 1 < n && p[i] == ' ' && p[i + 1] == ' ' ? 2 : 1;
    }
    *out = (str){p, k};
    return MOTE_OK;
}

static mote_status hellaswag_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str query, activity, ctx_a, ctx_b;
    int64_t gold;
    TRY(choices_of(it, json_object_get(doc, "endings"), err));
    TRY(number_of(doc, "label", &gold, err));
    TRY(set_gold(it, gold, err));
    if (json_object_get(doc, "activity_label")) {
        buf b;
        TRY(text_of(doc, "activity_label", &activity, err));
        TRY(text_of(doc, "ctx_a", &ctx_a, err));
        TRY(text_of(doc, "ctx_b", &ctx_b, err));
        buf_init(&b, (size_t)1 << 24);
        py_capitalize(&b, ctx_b);
        mote_status s = buf_check(&b, "a text", err);
        if (s == MOTE_OK) s = JOIN(a, &query, err, activity, STR(": "), ctx_a, STR(" "), buf_str(&b));
        buf_free(&b);
        TRY(s);
    } else TRY(text_of(doc, "query", &query, err));
    TRY(clean(a, query, &query, err));
    for (size_t i = 0; i < it->n; i++) TRY(clean(a, it->choices[i], &it->choices[i], err));
    return same_prompt(it, a, err, STR(""), query, STR(""));
}

/* ---- the others ---- */
static mote_status piqa_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str goal;
    int64_t gold;
    it->n = 2;
    TRY(text_of(doc, "goal", &goal, err));
    TRY(text_of(doc, "sol1", &it->choices[0], err));
    TRY(text_of(doc, "sol2", &it->choices[1], err));
    TRY(number_of(doc, "label", &gold, err));
    TRY(set_gold(it, gold, err));
    return same_prompt(it, a, err, STR("Question: "), goal, STR("\nAnswer:"));
}

static mote_status boolq_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str passage, q, head;
    int64_t gold;
    it->n = 2;
    it->choices[0] = STR("no");
    it->choices[1] = STR("yes");
    TRY(text_of(doc, "passage", &passage, err));
    TRY(text_of(doc, "question", &q, err));
    TRY(number_of(doc, json_object_get(doc, "label") ? "label" : "answer", &gold, err));
    TRY(set_gold(it, gold, err));
    TRY(JOIN(a, &head, err, passage, STR("\nQuestion: ")));
    return same_prompt(it, a, err, head, q, STR("?\nAnswer:"));
}

/* Each choice fills the gap; what follows it is scored. */
static mote_status winogrande_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str sentence, options[2];
    int64_t gold;
    TRY(text_of(doc, "sentence", &sentence, err));
    TRY(text_of(doc, "option1", &options[0], err));
    TRY(text_of(doc, "option2", &options[1], err));
    TRY(number_of(doc, "answer", &gold, err));
    const char *gap = sentence.n ? memchr(sentence.p, '_', sentence.n) : NULL;
    if (!gap) FAIL(err, MOTE_E_FORMAT, "a sentence without a gap '_'");
    size_t at = (size_t)(gap - sentence.p);
    it->n = 2;
    TRY(set_gold(it, gold - 1, err));
    for (size_t i = 0; i < 2; i++) {
        TRY(JOIN(a, &it->prompts[i], err, str_sub(sentence, 0, at), options[i]));
        it->choices[i] = py_strip(str_sub(sentence, at + 1, sentence.n - at - 1));
    }
    return MOTE_OK;
}

static mote_status mmlu_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str q;
    int64_t gold;
    TRY(text_of(doc, "question", &q, err));
    TRY(choices_of(it, json_object_get(doc, "choices"), err));
    TRY(number_of(doc, "answer", &gold, err));
    TRY(set_gold(it, gold, err));
    return same_prompt(it, a, err, STR("Question: "), py_strip(q), STR("\nAnswer:"));
}

static mote_status gsm8k_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str q;
    it->n = 1;
    TRY(text_of(doc, "question", &q, err));
    TRY(text_of(doc, "answer", &it->answer, err));
    return same_prompt(it, a, err, STR("Question: "), q, STR("\nAnswer:"));
}

static mote_status ifeval_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str prompt;
    it->n = 1;
    TRY(text_of(doc, "prompt", &prompt, err));
    if (!json_is_array(json_object_get(doc, "instruction_id_list"))) FAIL(err, MOTE_E_FORMAT, "an item has no list 'instruction_id_list'");
    return same_prompt(it, a, err, STR(""), prompt, STR(""));
}

/* A prompt and what should come of it. */
static mote_status text_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str prompt;
    it->n = 1;
    TRY(text_of(doc, "prompt", &prompt, err));
    TRY(text_of(doc, "reference", &it->answer, err));
    return same_prompt(it, a, err, STR(""), prompt, STR(""));
}

static mote_status extract_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    str prompt;
    it->n = 1;
    TRY(text_of(doc, "prompt", &prompt, err));
    if (!json_is_object(json_object_get(doc, "expected"))) FAIL(err, MOTE_E_FORMAT, "an item has no object 'expected'");
    char *text = json_dumps(json_object_get(doc, "expected"), JSON_COMPACT);
    it->answer = (str){text ? arena_dup(a, str_of(text)) : NULL, text ? strlen(text) : 0};
    free(text);
    if (!it->answer.p) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return same_prompt(it, a, err, STR(""), prompt, STR(""));
}

/* A document to be predicted, and what its words and bytes are counted in. */
static mote_status document_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    (void)a;
    it->n = 1;
    TRY(text_of(doc, "text", &it->prompts[0], err));
    it->choices[0] = it->prompts[0];
    return MOTE_OK;
}

static mote_status wikitext_item(const json_t *doc, arena *a, eval_item *it, mote_error *err) {
    buf text;
    it->n = 1;
    TRY(text_of(doc, "page", &it->choices[0], err));
    buf_init(&text, (size_t)64 << 20);
    mote_status s = eval_wikitext(it->choices[0], &text, err);
    if (s == MOTE_OK) {
        it->prompts[0] = (str){arena_dup(a, buf_str(&text)), text.n};
        if (!it->prompts[0].p) s = ERR(err, MOTE_E_MEMORY, "out of memory");
    }
    buf_free(&text);
    return s;
}

/* ---- the table ---- */
static const char *const gsm8k_stops[] = {"Question:", "</s>", "<|im_end|>", NULL};
#define ROLLED .metrics = {"word_perplexity", "byte_perplexity", "bits_per_byte"}, .docs = eval_text_docs
#define BOTH .metrics = {"acc", "acc_norm"}
static const eval_task tasks[] = {
    {.name = "hellaswag", .about = "which ending is sensible (Zellers et al. 2019)", .item = hellaswag_item, BOTH},
    {.name = "arc_easy", .about = "science questions for schools (Clark et al. 2018)", .item = arc_item, BOTH},
    {.name = "arc_challenge", .about = "the harder ones of them", .item = arc_item, BOTH},
    {.name = "piqa", .about = "which of two ways works (Bisk et al. 2020)", .item = piqa_item, BOTH},
    {.name = "boolq", .about = "yes or no, after a passage (Clark et al. 2019)", .item = boolq_item, .metrics = {"acc"}},
    {.name = "winogrande", .about = "whom a sentence means (Sakaguchi et al. 2020)", .item = winogrande_item, .many_prompts = true, .metrics = {"acc"}},
    {.name = "openbookqa", .about = "elementary science (Mihaylov et al. 2018)", .item = openbookqa_item, BOTH},
    {.name = "mmlu", .about = "knowledge of 57 fields, the answers' texts as choices (cloze; Hendrycks et al. 2021)", .item = mmlu_item, .first_fewshot = true, BOTH},
    {.name = "gsm8k", .about = "grade school mathematics, answers generated (Cobbe et al. 2021)", .kind = EVAL_ANSWER, .item = gsm8k_item, .judge = eval_judge_gsm8k,
     .n_fewshot = 5, .metrics = {"exact_match,strict-match", "exact_match,flexible-extract"}, .stops = gsm8k_stops, .max_tokens = 256},
    {.name = "ifeval", .about = "instructions that can be checked (Zhou et al. 2023)", .kind = EVAL_ANSWER, .item = ifeval_item, .judge = eval_judge_ifeval,
     .metrics = {"prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc"}, .max_tokens = 1280},
    {.name = "text", .about = "generated texts beside references {prompt, reference}: summaries, translations, rewriting", .kind = EVAL_ANSWER, .item = text_item,
     .judge = eval_judge_text, .metrics = {"chrf", "rouge1", "rouge2", "rougeL", "f1"}, .max_tokens = 256},
    {.name = "extract", .about = "fields out of texts {prompt, expected: object}: F1 over fields, exact objects, answers that are JSON", .kind = EVAL_ANSWER,
     .item = extract_item, .judge = eval_judge_extract, .metrics = {"field_f1", "exact", "is_json"}, .max_tokens = 256},
    {.name = "needle", .about = "a number hidden in a long plain text, asked for at its end", .kind = EVAL_ANSWER, .item = text_item, .judge = eval_judge_needle,
     .metrics = {"found"}, .max_tokens = 12, .docs = eval_needle_docs},
    {.name = "perplexity", .about = "a text in windows of 512 tokens, as mote perplexity and llama-perplexity; with a base (--kld), the divergence from it", .kind = EVAL_WINDOWS,
     .metrics = {"ppl", "bits_per_byte", "ppl_ratio", "kld", "kld_median", "kld_p99", "same_top", "rms_dp"}},
    {.name = "wikitext", .about = "articles {page} or a text of WikiText, detokenized, whole documents (Merity et al. 2016)", .kind = EVAL_ROLLING, .item = wikitext_item, ROLLED},
    {.name = "documents", .about = "whole documents {text}, or a plain text", .kind = EVAL_ROLLING, .item = document_item, ROLLED},
};

const eval_task *eval_task_at(size_t i) { return i < COUNT_OF(tasks) ? &tasks[i] : NULL; }

const eval_task *eval_find_task(const char *name) {
    for (size_t i = 0; i < COUNT_OF(tasks); i++)
        if (strcmp(tasks[i].name, name) == 0) return &tasks[i];
    return NULL;
}
