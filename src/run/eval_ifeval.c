/* eval_ifeval.c: does an answer follow its instructions? The 25 kinds of IFEval that its data set uses, as lm-evaluation-harness checks
 * them. Source: Zhou et al. 2023, "Instruction-Following Evaluation for Large Language Models", table 1.
 *
 * Three kinds rest on models of other packages, which are approximated here: sentences (NLTK's Punkt), words of the Treebank tokenizer, and the language
 * (langdetect); see eval_language.c. */
#include "run/eval_int.h"

#include <string.h>

/* ---- patterns ---- */
enum { CASELESS = PCRE2_CASELESS, LINES = PCRE2_MULTILINE };

/* How many times the pattern occurs, without overlap; at most `most`. A pattern that is none occurs nowhere. */
static size_t occurrences(str pattern, uint32_t flags, str text, size_t most) {
    int code;
    PCRE2_SIZE at;
    size_t n = 0;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.n, flags | PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF, &code, &at, NULL);
    pcre2_match_data *m = re ? pcre2_match_data_create_from_pattern(re, NULL) : NULL;
    pcre2_match_context *limits = pcre2_match_context_create(NULL);
    if (limits) (void)pcre2_set_match_limit(limits, 1000000);
    for (size_t from = 0; m && limits && from <= text.n && n < most; n++) {
        if (pcre2_match(re, (PCRE2_SPTR)text.p, text.n, from, 0, m, limits) < 0) break;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m);
        from = span[1] > span[0] ? span[1] : span[1] + 1;
    }
    pcre2_match_context_free(limits);
    pcre2_match_data_free(m);
    pcre2_code_free(re);
    return n;
}
static bool occurs(str pattern, uint32_t flags, str text) { return occurrences(pattern, flags, text, 1) > 0; }

/* Calls fn with each part between matches of a fixed separator; returns how many parts there are. */
static size_t split(str text, const char *by, str *parts, size_t cap) {
    size_t n = 0, k = strlen(by), from = 0;
    for (size_t i = 0; i + k <= text.n;) {
        if (memcmp(text.p + i, by, k) != 0) {
            i++;
            continue;
        }
        if (n < cap) parts[n] = str_sub(text, from, i - from);
        n++;
        i += k;
        from = i;
    }
    if (n < cap) parts[n] = str_sub(text, from, text.n - from);
    return n + 1;
}

/* ---- what an instruction says ---- */
typedef struct order {
    const json_t *args;
    str text;   /* the answer */
    arena *mem; /* for texts made on the way */
} order;

static str arg(const order *o, const char *key) { return json_get_str(o->args, key); }
static size_t count_arg(const order *o, const char *key) {
    double v = json_get_num(o->args, key, 0);
    return v > 0 && v < 1e9 ? (size_t)v : 0;
}
static str lower(const order *o, str s) {
    buf b;
    buf_init(&b, (size_t)64 << 20);
    py_lower(&b, s);
    const char *p = arena_dup(o->mem, buf_str(&b));
    str r = {p ? p : "", p ? b.n : 0};
    buf_free(&b);
    return r;
}
/* "less than" n, else "at least" n. */
static bool relation(const order *o, const char *key, size_t have, size_t want) {
    str r = arg(o, key);
    return r.p && str_is(r, "less than") ? have < want : have >= want;
}

/* ---- keywords ---- */
static bool keywords_existence(const order *o) {
    const json_t *list = json_object_get(o->args, "keywords"), *v;
    size_t i;
    json_array_foreach(list, i, v)
        if (!occurs((str){json_string_value(v), json_string_length(v)}, CASELESS, o->text)) return false;
    return true;
}
static bool keywords_frequency(const order *o) {
    return relation(o, "relation", occurrences(py_strip(arg(o, "keyword")), CASELESS, o->text, SIZE_MAX), count_arg(o, "frequency"));
}
static bool forbidden_words(const order *o) {
    const json_t *list = json_object_get(o->args, "forbidden_words"), *v;
    size_t i;
    json_array_foreach(list, i, v) {
        char pattern[512];
        int n = snprintf(pattern, sizeof pattern, "\\b%s\\b", json_string_value(v) ? json_string_value(v) : "");
        if (n > 0 && (size_t)n < sizeof pattern && occurs((str){pattern, (size_t)n}, CASELESS, o->text)) return false;
    }
    return true;
}
static bool letter_frequency(const order *o) {
    str letter = lower(o, arg(o, "letter")), text = lower(o, o->text);
    size_t n = 0;
    for (size_t i = 0; letter.n && i + letter.n <= text.n; i++) n += memcmp(text.p + i, letter.p, letter.n) == 0;
    return relation(o, "let_relation", n, count_arg(o, "let_frequency"));
}

/* ---- lengths ---- */
static bool number_sentences(const order *o) { return relation(o, "relation", eval_sentences(o->text), count_arg(o, "num_sentences")); }
static bool number_words(const order *o) { return relation(o, "relation", occurrences(STR("\\w+"), 0, o->text, SIZE_MAX), count_arg(o, "num_words")); }

enum { PARTS_MAX = 512 };
/* Parts between "***"; empty ones count only at the ends, and there for nothing. */
static bool number_paragraphs(const order *o) {
    str parts[PARTS_MAX];
    size_t n = split(o->text, "***", parts, PARTS_MAX), count = n;
    for (size_t i = 0; i < MIN(n, (size_t)PARTS_MAX); i++) {
        if (py_strip(parts[i]).n) continue;
        if (i != 0 && i != n - 1) return false;
        count--;
    }
    return count == count_arg(o, "num_paragraphs");
}
static bool nth_paragraph(const order *o) {
    str parts[PARTS_MAX];
    size_t n = split(o->text, "\n\n", parts, PARTS_MAX), count = n, nth = count_arg(o, "nth_paragraph");
    if (n > PARTS_MAX) return false;
    for (size_t i = 0; i < n; i++) count -= py_strip(parts[i]).n == 0;
    if (nth < 1 || nth > count) return false;
    str p = py_strip(parts[nth - 1]);
    if (!p.n) return false;
    size_t end = 0, from = 0;
    uint32_t cp;
    while (end < p.n) {
        size_t k = utf8_decode(p.p + end, p.n - end, &cp);
        if (py_is_space(cp)) break;
        end += k;
    }
    while (from < end && p.p[from] == '\'') from++;
    while (from < end && p.p[from] == '"') from++;
    size_t stop = from;
    while (stop < end && !strchr(".,?!'\"", p.p[stop])) stop++;
    return count == count_arg(o, "num_paragraphs") && str_eq(lower(o, str_sub(p, from, stop - from)), lower(o, arg(o, "first_word")));
}

/* ---- content and form ---- */
static bool placeholders(const order *o) { return occurrences(STR("\\[.*?\\]"), 0, o->text, SIZE_MAX) >= count_arg(o, "num_placeholders"); }
static bool postscript(const order *o) {
    str marker = py_strip(arg(o, "postscript_marker")), text = lower(o, o->text);
    if (str_is(marker, "P.P.S")) return occurs(STR("\\s*p\\.\\s?p\\.\\s?s.*$"), LINES, text);
    if (str_is(marker, "P.S.")) return occurs(STR("\\s*p\\.\\s?s\\..*$"), LINES, text);
    return occurs(lower(o, marker), LINES, text);
}
static bool bullets(const order *o) {
    size_t stars = occurrences(STR("^\\s*\\*[^\\*].*$"), LINES, o->text, SIZE_MAX), dashes = occurrences(STR("^\\s*-.*$"), LINES, o->text, SIZE_MAX);
    return stars + dashes == count_arg(o, "num_bullets");
}
static bool constrained(const order *o) { return occurs(STR("My answer is (yes|no|maybe)\\."), 0, o->text); }
static bool highlights(const order *o) {
    size_t single = 0, twice = occurrences(STR("\\*\\*(?=[^\\n\\*]*[^\\n\\*\\s])[^\\n\\*]*\\*\\*"), 0, o->text, SIZE_MAX);
    for (size_t i = 0; i < o->text.n; i++) { /* *…* without overlap, something in it */
        if (o->text.p[i] != '*') continue;
        size_t j = i + 1;
        while (j < o->text.n && o->text.p[j] != '*' && o->text.p[j] != '\n') j++;
        if (j >= o->text.n || o->text.p[j] == '\n') continue;
        single += py_strip(str_sub(o->text, i + 1, j - i - 1)).n > 0;
        i = j;
    }
    return single + twice >= count_arg(o, "num_highlights");
}
static bool sections(const order *o) {
    char pattern[512];
    str by = py_strip(arg(o, "section_spliter"));
    int n = snprintf(pattern, sizeof pattern, "\\s?%.*s\\s?\\d+\\s?", STR_ARG(by));
    return n > 0 && (size_t)n < sizeof pattern && occurrences((str){pattern, (size_t)n}, 0, o->text, SIZE_MAX) >= count_arg(o, "num_sections");
}
static bool json_format(const order *o) {
    static const char *const heads[] = {"```json", "```Json", "```JSON", "```"};
    str s = py_strip(o->text);
    json_t *v;
    for (size_t i = 0; i < COUNT_OF(heads); i++)
        if (str_starts(s, str_of(heads[i]))) s = str_sub(s, strlen(heads[i]), s.n - strlen(heads[i]));
    if (str_ends(s, STR("```"))) s.n -= 3;
    bool ok = json_parse(&v, py_strip(s), "an answer", NULL) == MOTE_OK;
    if (ok) json_decref(v);
    return ok;
}
static bool title(const order *o) { return occurs(STR("<<(?=[^\\n]*[^<>\\s])[^\\n]+>>"), 0, o->text); }

/* ---- combinations, ends, letters ---- */
static bool two_responses(const order *o) {
    str parts[PARTS_MAX], valid[2];
    size_t n = split(o->text, "******", parts, PARTS_MAX), count = 0;
    for (size_t i = 0; i < MIN(n, (size_t)PARTS_MAX); i++) {
        if (!py_strip(parts[i]).n) {
            if (i != 0 && i != n - 1) return false;
        } else {
            if (count < 2) valid[count] = py_strip(parts[i]);
            count++;
        }
    }
    return count == 2 && !str_eq(valid[0], valid[1]);
}
static bool repeat_prompt(const order *o) { return str_starts(lower(o, py_strip(o->text)), lower(o, py_strip(arg(o, "prompt_to_repeat")))); }
static bool end_checker(const order *o) {
    str s = py_strip(o->text);
    while (s.n && s.p[0] == '"') s = str_sub(s, 1, s.n - 1);
    while (s.n && s.p[s.n - 1] == '"') s.n--;
    return str_ends(lower(o, s), lower(o, py_strip(arg(o, "end_phrase"))));
}
static bool quotation(const order *o) {
    str s = py_strip(o->text);
    return s.n > 1 && s.p[0] == '"' && s.p[s.n - 1] == '"';
}
static bool capital_words(const order *o) { return relation(o, "capital_relation", eval_capital_words(o->text), count_arg(o, "capital_frequency")); }
static bool all_upper(const order *o) { return eval_has_case(o->text, true) && eval_language_is(o->text, "en"); }
static bool all_lower(const order *o) { return eval_has_case(o->text, false) && eval_language_is(o->text, "en"); }
static bool no_comma(const order *o) { return !o->text.n || !memchr(o->text.p, ',', o->text.n); }
static bool language(const order *o) {
    str l = arg(o, "language");
    return l.p && eval_language_is(o->text, l.p);
}

static const struct {
    const char *id;
    bool (*follows)(const order *o);
} kinds[] = {
    {"keywords:existence", keywords_existence}, {"keywords:frequency", keywords_frequency}, {"keywords:forbidden_words", forbidden_words},
    {"keywords:letter_frequency", letter_frequency}, {"language:response_language", language}, {"length_constraints:number_sentences", number_sentences},
    {"length_constraints:number_paragraphs", number_paragraphs}, {"length_constraints:number_words", number_words},
    {"length_constraints:nth_paragraph_first_word", nth_paragraph}, {"detectable_content:number_placeholders", placeholders},
    {"detectable_content:postscript", postscript}, {"detectable_format:number_bullet_lists", bullets}, {"detectable_format:constrained_response", constrained},
    {"detectable_format:number_highlighted_sections", highlights}, {"detectable_format:multiple_sections", sections}, {"detectable_format:json_format", json_format},
    {"detectable_format:title", title}, {"combination:two_responses", two_responses}, {"combination:repeat_prompt", repeat_prompt},
    {"startend:end_checker", end_checker}, {"startend:quotation", quotation}, {"change_case:capital_word_frequency", capital_words},
    {"change_case:english_capital", all_upper}, {"change_case:english_lowercase", all_lower}, {"punctuation:no_comma", no_comma},
};

bool eval_follows(const char *id, const json_t *args, str answer, bool *known) {
    arena mem;
    bool ok = false;
    *known = false;
    arena_init(&mem, (size_t)256 << 20);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        if (strcmp(kinds[i].id, id) != 0) continue;
        *known = true;
        ok = py_strip(answer).n > 0 && kinds[i].follows(&(order){args, answer, &mem});
    }
    arena_free(&mem);
    return ok;
}

/* ---- a whole answer ---- */
/* The eight readings of "loose": with and without the first and last line, with and without asterisks. Appended, one after the other. */
static mote_status readings(str answer, buf *room, str out[8], mote_error *err) {
    size_t at[8], len[8];
    const char *first = answer.n ? memchr(answer.p, '\n', answer.n) : NULL;
    size_t head = first ? (size_t)(first - answer.p) + 1 : answer.n, tail = 0;
    for (size_t i = 0; i < answer.n; i++)
        if (answer.p[i] == '\n') tail = i;
    str parts[4] = {answer, py_strip(str_sub(answer, head, answer.n - head)), py_strip(str_sub(answer, 0, tail)),
                    py_strip(tail > head ? str_sub(answer, head, tail - head) : (str){"", 0})};
    for (int i = 0; i < 8; i++) {
        at[i] = room->n;
        str p = parts[i / 2];
        for (size_t k = 0; k < p.n; k++)
            if (!(i % 2) || p.p[k] != '*') buf_putc(room, p.p[k]);
        len[i] = room->n - at[i];
    }
    TRY(buf_check(room, "an answer", err));
    for (int i = 0; i < 8; i++) out[i] = (str){room->p ? room->p + at[i] : "", len[i]};
    return MOTE_OK;
}

mote_status eval_judge_ifeval(const eval_item *it, str answer, double *values, json_t *details, mote_error *err) {
    const json_t *ids = json_object_get(it->doc, "instruction_id_list"), *kwargs = json_object_get(it->doc, "kwargs");
    size_t n = json_array_size(ids), strict = 0, loose = 0;
    json_t *list = json_array();
    str texts[8];
    buf room;
    buf_init(&room, (size_t)256 << 20);
    mote_status s = list && json_object_set_new(details, "followed", list) == 0 ? readings(answer, &room, texts, err) : ERR(err, MOTE_E_MEMORY, "out of memory");
    for (size_t i = 0; i < n && s == MOTE_OK; i++) {
        const char *id = json_string_value(json_array_get(ids, i));
        bool known, ok = id && eval_follows(id, json_array_get(kwargs, i), texts[0], &known), any = ok;
        if (!id || !known) s = ERR(err, MOTE_E_FORMAT, "unknown instruction '%s'", id ? id : "");
        for (int k = 1; k < 8 && !any && s == MOTE_OK; k++) any = eval_follows(id, json_array_get(kwargs, i), texts[k], &known);
        strict += ok;
        loose += any;
        (void)json_array_append_new(list, json_pack("[b, b]", (int)ok, (int)any));
    }
    buf_free(&room);
    double all = n ? (double)n : 1;
    values[0] = strict == n;
    values[1] = (double)strict / all;
    values[2] = loose == n;
    values[3] = (double)loose / all;
    return s;
}
