/* presets.c: tasks of `mote run`. The system prompts are those of SmolLM2's own training (the smol-smoltalk data set's rewriting and summarizing
 * parts), which its children understand best. */
#include "presets.h"

#include "mote/choose.h"

#include <stdlib.h>
#include <string.h>

typedef struct preset {
    const char *task, *system, *before;
    double temp, repeat_penalty; /* little: a summary says its subject again */
    int64_t n_predict;
} preset;

enum { LOOP_TOKENS = 8 }; /* of a sequence that is said again: from there on it costs, so that a loop ends */

static const preset presets[] = {
    {"summarize", "Provide a concise, objective summary of the input text in up to three sentences, focusing on key actions and intentions without using second or third person pronouns.",
     "", 0, 1.05, 160},
    {"rewrite", "You're an AI assistant for text re-writing. Rewrite the input text to make it more concise while preserving its core meaning.", "", 0, 1.05, 300},
    {"explain", NULL, "Explain in simple words: ", 0.2, 1.1, 200},
};

static const preset *find(const struct run_options *o) {
    for (size_t i = 0; o->task && i < sizeof presets / sizeof *presets; i++)
        if (strcmp(presets[i].task, o->task) == 0) return &presets[i];
    return NULL;
}

static bool is(const struct run_options *o, const char *task) { return o->task && strcmp(o->task, task) == 0; }
bool presets_chooses(const struct run_options *o) { return is(o, "classify") || is(o, "extract"); }

int presets_apply(const cli_command *self, struct run_options *o) {
    if (o->labels && !is(o, "classify")) return cli_usage(self, "--labels goes with --task classify");
    if (o->fields && !is(o, "extract")) return cli_usage(self, "--fields goes with --task extract");
    if (is(o, "classify") && !o->labels) return cli_usage(self, "--task classify needs --labels, as in --labels sports,politics");
    if (is(o, "extract") && !o->fields) return cli_usage(self, "--task extract needs --fields, as in --fields name,date");
    if (o->task && (o->raw || o->prefix || o->suffix)) return cli_usage(self, "--task goes neither with --raw nor with --prefix and --suffix");
    const preset *p = find(o);
    if (!p) return CLI_OK;
    if (p->system && !o->system) o->system = p->system;
    if (sample_unsaid(o->sample.temp)) o->sample.temp = p->temp;
    if (sample_unsaid(o->sample.repeat_penalty)) o->sample.repeat_penalty = p->repeat_penalty;
    if (o->sample.dry_multiplier == sample_defaults.dry_multiplier) o->sample.dry_multiplier = 1, o->sample.dry_allowed_length = LOOP_TOKENS;
    if (o->n_predict < 0) o->n_predict = p->n_predict;
    return CLI_OK;
}

char *presets_prompt(const struct run_options *o, const char *text, size_t n, size_t *n_out) {
    const preset *p = find(o);
    const char *before = p ? p->before : "";
    size_t m = strlen(before);
    char *all = malloc(m + n + 1);
    if (!all) {
        cli_say("out of memory");
        return NULL;
    }
    memcpy(all, before, m);
    memcpy(all + m, text, n);
    all[m + n] = 0;
    *n_out = m + n;
    return all;
}

/* ---- choosing ---- */

enum { WORDS_CAP = MOTE_LABELS_MAX + 1 /* one more than the library takes: it says so */ };

/* "a, b": the words between commas, cut in place. */
static size_t split(char *list, const char *words[WORDS_CAP]) {
    size_t n = 0;
    for (char *at = list; at && n < WORDS_CAP;) {
        char *comma = strchr(at, ',');
        if (comma) *comma = 0;
        while (*at == ' ') at++;
        char *end = at + strlen(at);
        while (end > at && end[-1] == ' ') *--end = 0;
        words[n++] = at;
        at = comma ? comma + 1 : NULL;
    }
    return n;
}

static int print_labels(const struct run_options *o, const char *const *labels, const double *p, size_t n) {
    size_t top = 0;
    for (size_t i = 1; i < n; i++)
        if (p[i] > p[top]) top = i;
    if (!o->json) {
        (void)printf("%s\n", labels[top]);
        for (size_t i = 0; i < n && o->stats; i++) (void)fprintf(stderr, "%6.1f %%  %s\n", 100 * p[i], labels[i]);
        return cli_done(CLI_OK);
    }
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++) (void)json_object_set_new(all, labels[i], json_real(p[i]));
    return cli_print_json(json_pack("{s:s, s:o}", "label", labels[top], "probabilities", all));
}

static int print_spans(const char *text, const char *const *fields, const mote_span *found, size_t n) {
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++) (void)json_object_set_new(all, fields[i], found[i].n ? cli_json_text(text + found[i].from, found[i].n) : json_null());
    return cli_print_json(all);
}

int presets_choose(loaded *l, const struct run_options *o, const char *text, size_t n) {
    const char *words[WORDS_CAP];
    double p[MOTE_LABELS_MAX];
    mote_span spans[MOTE_LABELS_MAX];
    mote_error err;
    mote_status s;
    const bool labels = is(o, "classify");
    char *list = strdup(labels ? o->labels : o->fields);
    if (!list) {
        cli_say("out of memory");
        return CLI_IO;
    }
    const size_t count = split(list, words);
    if (labels) s = mote_classify(l->session, 0, text, n, words, count, p, &err);
    else s = mote_extract(l->session, 0, text, n, words, count, spans, &err);
    int code = s != MOTE_OK ? cli_fail(&err) : labels ? print_labels(o, words, p, count) : print_spans(text, words, spans, count);
    free(list);
    return code;
}
