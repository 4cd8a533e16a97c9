/* cmd_tokenizer.c: a vocabulary learnt from text. */
#include "commands.h"
#include "mote/tokenizer.h"

#include <string.h>

struct tokenizer_options {
    const char *out, *pre;
    int64_t vocab, min_count;
    cli_list special;
    bool strict, json;
};

const cli_option tokenizer_options[] = {
    OPT_STR(struct tokenizer_options, out, "output", "o", "OUT", "NAME.gguf, NAME.json (tokenizer.json) or a folder for Hugging Face"),
    OPT_INT(struct tokenizer_options, vocab, "vocab-size", "V", "N", 257, 1 << 22, "tokens, with special tokens and the 256 bytes"),
    OPT_INT(struct tokenizer_options, min_count, "min-frequency", NULL, "N", 1, 1 << 30, "pairs that occur less often are not merged"),
    OPT_LIST(struct tokenizer_options, special, "special", NULL, "TEXT", "a special token, many times; the first ends texts (default: <|endoftext|>, <|im_start|>, <|im_end|>)"),
    OPT_CHOICE(struct tokenizer_options, pre, "pre", NULL, "smollm|gpt-2|qwen2", "how text is cut into words before merging: a rule that llama.cpp and Hugging Face know too"),
    OPT_FLAG(struct tokenizer_options, strict, "strict", NULL, "a broken line of the data is an error; else it is skipped and counted"),
    OPT_FLAG(struct tokenizer_options, json, "json", NULL, "print JSON: tokens, merges, bytes, bytes per token"),
    {0},
};
const cli_example tokenizer_examples[] = {
    {"mote tokenizer stories.txt -V 4096 -o vocab.gguf", "a vocabulary of 4096 tokens, for mote train and llama.cpp"},
    {"mote tokenizer chat.jsonl books.jsonl -V 32k -o my-tokenizer", "a folder that AutoTokenizer.from_pretrained opens"},
    {"mote tokenize -m vocab.gguf 'Once upon a time'", "look at what it does"},
    {0},
};

static bool show(void *ctx, double share, const char *what) {
    cli_progress *bar = ctx;
    bar->what = what;
    cli_progress_show(bar, share * 100, 100, "%");
    return true;
}

int cmd_tokenizer(const cli_command *self, int argc, char **argv) {
    struct tokenizer_options o = {.vocab = 8192, .min_count = 2, .pre = "smollm"};
    cli_args args;
    int code;
    if (!cli_parse(self, &o, &args, CLI_LIST_MAX, argc, argv, &code)) return code;
    if (!args.n || !o.out) return cli_usage(self, "from which texts, and into which file? mote tokenizer FILE… -o OUT");
    cli_progress bar = cli_progress_start("counting words");
    const mote_tokenizer_options t = {.vocab_size = (size_t)o.vocab, .min_count = (uint64_t)o.min_count, .pre = o.pre, .special = o.special.n ? o.special.v : NULL,
                                      .n_special = o.special.n, .strict = o.strict, .progress = show, .progress_ctx = &bar};
    mote_tokenizer_report r;
    mote_error err;
    mote_status st = mote_tokenizer_train(args.v, args.n, o.out, &t, &r, &err);
    cli_progress_end(&bar);
    if (st != MOTE_OK) return cli_fail(&err);
    if (o.json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "file", o.out, "tokens", (json_int_t)r.n_tokens, "merges", (json_int_t)r.n_merges,
                                        "words", (json_int_t)r.n_words, "bytes", (json_int_t)r.bytes, "skipped", (json_int_t)r.n_skipped, "bytes_per_token",
                                        r.bytes_per_token, "seconds", r.seconds));
    char size[32];
    (void)printf("%s: %zu tokens, %zu merges from %s of text (%zu different words); %.2f bytes per token\n", o.out, r.n_tokens, r.n_merges, cli_size(size, r.bytes),
                 r.n_words, r.bytes_per_token);
    if (r.n_tokens < (size_t)o.vocab) cli_say("no more pairs occur %lld times: %zu tokens instead of %lld", (long long)o.min_count, r.n_tokens, (long long)o.vocab);
    if (r.n_skipped) cli_say("%zu lines or parts could not be read and were skipped", r.n_skipped);
    return cli_done(CLI_OK);
}
