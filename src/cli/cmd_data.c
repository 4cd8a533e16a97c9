/* cmd_data.c: texts made fit for training. */
#include "commands.h"
#include "mote/prepare.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct data_options {
    const char *out, *quality, *script, *language, *personal, *order, *model, *rejected, *report;
    cli_list evaluation;
    int64_t min_words, max_words, evaluation_words, seed, threads;
    double max_repetition, near, max_loss;
    bool keep_duplicates, strict, json;
};

const cli_option data_options[] = {
    OPT_STR(struct data_options, out, "output", "o", "OUT.jsonl", "the documents that pass, one JSON line each"),
    OPT_INT(struct data_options, min_words, "min-words", NULL, "N", 1, 1 << 30, "shorter documents go"),
    OPT_INT(struct data_options, max_words, "max-words", NULL, "N", 0, 1 << 30, "longer documents go (0: none)"),
    OPT_NUM(struct data_options, max_repetition, "max-repetition", NULL, "X", 0, 1, "documents with more than the share X of five-word sequences said before go (0: 0.3, gopher 0.15)"),
    OPT_CHOICE(struct data_options, quality, "quality", NULL, "gentle|gopher|any", "gentle: only what is neither text nor code goes; gopher: prose, by the rules of Rae et al. 2021; any: no rules"),
    OPT_STR(struct data_options, script, "script", NULL, "NAME", "four fifths of the letters are latin, cyrillic, greek, arabic, han, …"),
    OPT_STR(struct data_options, language, "language", NULL, "en|de|…", "by the commonest words: en, de, fr, es, it, pt, nl"),
    OPT_CHOICE(struct data_options, personal, "personal", NULL, "keep|redact|drop", "e-mail and IP addresses, telephone and card numbers: keep them, put <e-mail> in their place, or drop the document"),
    OPT_FLAG(struct data_options, keep_duplicates, "keep-duplicates", NULL, "keep documents that are equal but for letter case and white space"),
    OPT_NUM(struct data_options, near, "near", NULL, "X", 0.05, 1, "drop documents whose five-word sequences overlap X or more with an earlier one's (MinHash; 1: off)"),
    OPT_LIST(struct data_options, evaluation, "eval", "e", "FILE", "what is tested on later: documents that hold a sequence of its words go; many times, any text or JSON"),
    OPT_INT(struct data_options, evaluation_words, "eval-words", NULL, "N", 6, 1000, "so many words in a row"),
    OPT_CHOICE(struct data_options, order, "order", NULL, "as-is|length|loss|chance", "short ones first, easy ones first (with -m), or shuffled; mote train --order easy-first uses it"),
    OPT_STR(struct data_options, model, "model", "m", "MODEL", "counts tokens; measures the loss for --order loss and --max-loss"),
    OPT_NUM(struct data_options, max_loss, "max-loss", NULL, "X", 0, 1000, "documents on which the model's mean loss is above X go (0: none)"),
    OPT_INT(struct data_options, threads, "threads", "t", "N", 0, 256, "threads of the model (0: by measurement)"),
    OPT_INT(struct data_options, seed, "seed", "s", "N", 0, 9e15, "seed of --order chance"),
    OPT_FLAG(struct data_options, strict, "strict", NULL, "a broken line is an error; else it is counted"),
    OPT_STR(struct data_options, rejected, "rejected", NULL, "FILE", "what is left out, with the reason"),
    OPT_STR(struct data_options, report, "report", NULL, "FILE.md", "the report as Markdown"),
    OPT_FLAG(struct data_options, json, "json", NULL, "print the report as JSON"),
    {0},
};
const cli_example data_examples[] = {
    {"mote data books/*.txt chat.jsonl -o train.jsonl", "filter, drop duplicates, report"},
    {"mote data crawl.jsonl -o train.jsonl --quality gopher --language en --personal redact", "English prose, without addresses"},
    {"mote data train.jsonl -o clean.jsonl -e hellaswag.jsonl -e wiki.test.txt", "nothing that is tested on later"},
    {"mote data train.jsonl -o easy-first.jsonl --order loss -m smollm2", "a curriculum by a model's loss"},
    {0},
};

static int choice(const char *word, const char *const *words) {
    int i = 0;
    while (words[i] && strcmp(word, words[i]) != 0) i++;
    return i;
}

static json_t *report_json(const mote_data_report *r, const char *out) {
    json_t *why = json_object(), *licences = json_array();
    for (int i = 0; i < MOTE_DATA_REASONS; i++)
        if (r->left_out[i])
            (void)json_object_set_new(why, mote_data_reason_text(i), json_pack("{s:I, s:I}", "documents", (json_int_t)r->left_out[i], "bytes", (json_int_t)r->left_out_bytes[i]));
    for (size_t i = 0; i < r->n_licences; i++)
        (void)json_array_append_new(licences, json_pack("{s:s, s:I, s:I}", "licence", r->licences[i].name, "documents", (json_int_t)r->licences[i].documents, "bytes",
                                                        (json_int_t)r->licences[i].bytes));
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:f, s:s, s:s, s:f}", "file", out, "documents_in", (json_int_t)r->n_in, "documents_out",
                     (json_int_t)r->n_out, "bytes_in", (json_int_t)r->bytes_in, "bytes_out", (json_int_t)r->bytes_out, "words_out", (json_int_t)r->words_out,
                     "tokens_out", (json_int_t)r->tokens_out, "left_out", why, "licences", licences, "redacted", (json_int_t)r->n_redacted, "loss", r->loss, "sha256",
                     r->sha256, "first_broken", r->first_broken, "seconds", r->seconds);
}

static void print_markdown(FILE *f, const mote_data_report *r, const char *out) {
    char size[32];
    (void)fprintf(f, "# %s\n\n", out);
    (void)fprintf(f, "| | documents | text |\n|---|---:|---:|\n| read | %zu | %s |\n", r->n_in, cli_size(size, r->bytes_in));
    for (int i = 0; i < MOTE_DATA_REASONS; i++)
        if (r->left_out[i]) (void)fprintf(f, "| %s | -%zu | %s |\n", mote_data_reason_text(i), r->left_out[i], cli_size(size, r->left_out_bytes[i]));
    (void)fprintf(f, "| **written** | **%zu** | **%s** |\n\n%" PRIu64 " words", r->n_out, cli_size(size, r->bytes_out), r->words_out);
    if (r->tokens_out) (void)fprintf(f, ", %" PRIu64 " tokens", r->tokens_out);
    if (r->loss > 0) (void)fprintf(f, ", mean loss %.3f nats per token", r->loss);
    if (r->n_redacted) (void)fprintf(f, ", %zu places redacted", r->n_redacted);
    (void)fprintf(f, "; SHA-256 %s\n", r->sha256);
    if (r->first_broken[0]) (void)fprintf(f, "\nThe first broken line: %s\n", r->first_broken);
    (void)fprintf(f, "\n| licence | documents | text |\n|---|---:|---:|\n");
    for (size_t i = 0; i < r->n_licences; i++)
        (void)fprintf(f, "| %s | %zu | %s |\n", r->licences[i].name, r->licences[i].documents, cli_size(size, r->licences[i].bytes));
}

static bool show(void *ctx, double share, const char *what) {
    cli_progress *bar = ctx;
    bar->what = what;
    cli_progress_show(bar, share * 100, 100, "%");
    return true;
}

int cmd_data(const cli_command *self, int argc, char **argv) {
    static const char *const qualities[] = {"gentle", "gopher", "any", NULL}, *const ways[] = {"keep", "redact", "drop", NULL},
                             *const orders[] = {"as-is", "length", "loss", "chance", NULL};
    struct data_options o = {.quality = "gentle", .personal = "keep", .order = "as-is", .min_words = 8, .near = 0.8, .evaluation_words = 13};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, CLI_LIST_MAX, argc, argv, &code)) return code;
    if (!args.n || !o.out) return cli_usage(self, "which texts, and into which file? mote data FILE… -o OUT.jsonl");
    cli_progress bar = cli_progress_start("reading");
    const mote_data_options d = {.min_words = (size_t)o.min_words, .max_words = (size_t)o.max_words, .max_repetition = o.max_repetition,
                                 .quality = (mote_data_quality)choice(o.quality, qualities), .script = o.script, .language = o.language,
                                 .personal = (mote_data_private)choice(o.personal, ways), .keep_duplicates = o.keep_duplicates, .near = o.near,
                                 .evaluation = o.evaluation.v, .n_evaluation = o.evaluation.n, .evaluation_words = (size_t)o.evaluation_words,
                                 .order = (mote_data_order)choice(o.order, orders), .model = o.model, .max_loss = o.max_loss, .n_threads = (int)o.threads,
                                 .seed = (uint64_t)o.seed, .strict = o.strict, .rejected = o.rejected, .progress = show, .progress_ctx = &bar};
    mote_data_report r;
    mote_error err;
    mote_status st = mote_data_prepare(args.v, args.n, o.out, &d, &r, &err);
    cli_progress_end(&bar);
    if (st != MOTE_OK) return cli_fail(&err);
    if (o.report) {
        FILE *f = fopen(o.report, "w");
        if (f) print_markdown(f, &r, o.out);
        if (!f || fclose(f) != 0) {
            (void)cli_error(&err, MOTE_E_IO, "%s: %s", o.report, strerror(errno));
            return cli_fail(&err);
        }
    }
    if (o.json) return cli_print_json(report_json(&r, o.out));
    print_markdown(stdout, &r, o.out);
    return cli_done(CLI_OK);
}
