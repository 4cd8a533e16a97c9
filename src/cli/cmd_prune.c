/* cmd_prune.c: a model with parts of it taken out. */
#include "commands.h"
#include "common.h"
#include "models.h"
#include "smoke.h"
#include "mote/prune.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct prune_options {
    const char *layers, *depth_by, *width_by, *params, *axes, *merge_by, *vocab_by, *file, *share, *share_by, *window_layers, *linear_layers, *block_layers, *experts_by, *split_by, *dynamic_by;
    int64_t block_count, block_size, block_window, block_top, drop_experts, linear_count, linear_window, linear_features, linear_steps, split_experts, experts_used, shared_experts;
    int64_t share_rank, window, window_count, upcycle, drop_layers, embd, ff, heads, kv_heads, merge_kv, vocab, divisor, tokens, seed, threads;
    double ratio, dynamic, upcycle_drop;
    bool repair, json, no_smoke;
};

#define S struct prune_options
const cli_option prune_options[] = {
    OPT_STR(S, file, "file", "f", "FILE", "calibration text, or JSON lines with \"text\" or chats: what is taken is what matters least to it (default: the one that is built in)"),
    OPT_STR(S, layers, "prune-layers", NULL, "L0,L1,…", "these layers go: 20,21 or 4-7"),
    OPT_INT(S, drop_layers, "drop-layers", NULL, "N", 0, 4096, "N layers go, chosen by --depth-by"),
    OPT_CHOICE(S, depth_by, "depth-by", NULL, "perplexity|influence|random|last", "which: those the text's likelihood needs least (slow), those that change the stream least (ShortGPT), …"),
    OPT_INT(S, embd, "embd", NULL, "N", 0, 1 << 20, "N hidden channels are left"),
    OPT_INT(S, ff, "ff", NULL, "N", 0, 1 << 24, "N neurons are left in each feed-forward"),
    OPT_INT(S, heads, "heads", NULL, "N", 0, 4096, "N query heads are left in each layer, as many for each key/value head"),
    OPT_INT(S, kv_heads, "kv-heads", NULL, "N", 0, 4096, "N key/value heads are left in each layer, with their query heads"),
    OPT_CHOICE(S, width_by, "width-by", NULL, "minitron|contribution|magnitude|random", "which: those whose activations are least; activations times the weights that read them; weights alone; …"),
    OPT_FLAG(S, repair, "repair", NULL, "fit the weights that read what is left to give what the whole gave (least squares over the text)"),
    OPT_STR(S, params, "params", NULL, "N", "budget: at most N parameters (100M, 1.5B)"),
    OPT_NUM(S, ratio, "ratio", NULL, "X", 0, 0.99, "budget: take away this part of the parameters"),
    OPT_STR(S, axes, "axes", NULL, "LIST", "what a budget shrinks: ff, embd, heads, layers with commas (default ff)"),
    OPT_INT(S, divisor, "divisor", NULL, "N", 0, 1 << 16, "a budget's channels and neurons are multiples of N (default 32)"),
    OPT_INT(S, merge_kv, "merge-kv", NULL, "N", 0, 4096, "key/value heads are merged until N are left (GQA, MQA)"),
    OPT_CHOICE(S, merge_by, "merge-by", NULL, "aligned|mean", "how: turned to fit each other first, or their plain mean"),
    OPT_INT(S, vocab, "vocab", NULL, "N", 0, 1 << 24, "N tokens are left of the vocabulary"),
    OPT_CHOICE(S, vocab_by, "vocab-by", NULL, "frequency|first", "which: the most frequent of the text, or the first"),
    OPT_INT(S, window, "window", NULL, "N", 0, 1 << 24, "attention sees N keys in the layers of --window-layers"),
    OPT_STR(S, window_layers, "window-layers", NULL, "LIST", "those layers (default: all but the first and the last)"),
    OPT_INT(S, window_count, "window-count", NULL, "N", 0, 4096, "the N layers that miss the other keys least (--depth-by random: any)"),
    OPT_STR(S, linear_layers, "linear-layers", NULL, "LIST", "linear attention in those layers: memory that does not grow with the context"),
    OPT_INT(S, linear_count, "linear-count", NULL, "N", 0, 4096, "or in the N layers that miss far keys least (--depth-by random: any)"),
    OPT_INT(S, linear_window, "linear-window", NULL, "N", 0, 1 << 24, "behind N keys that are seen exactly (default 64)"),
    OPT_INT(S, linear_features, "linear-features", NULL, "N", 0, 1024, "N exponents, that is 2 N features, a head (default: its dimensions)"),
    OPT_INT(S, linear_steps, "linear-steps", NULL, "N", 0, 1 << 24, "train the feature maps for N steps (default 200)"),
    OPT_STR(S, block_layers, "block-layers", NULL, "LIST", "attention reads a few blocks of keys in those layers: time that hardly grows"),
    OPT_INT(S, block_count, "block-count", NULL, "N", 0, 4096, "or in the N layers that miss far keys least (--depth-by random: any)"),
    OPT_INT(S, block_size, "block-size", NULL, "N", 0, 1 << 16, "blocks of N keys, a multiple of 64 (default 64)"),
    OPT_INT(S, block_window, "block-window", NULL, "N", 0, 1 << 20, "the last N blocks are always read, and the first (default 1)"),
    OPT_INT(S, block_top, "block-top", NULL, "N", 0, 64, "and N that each query chooses by their mean keys (default 4)"),
    OPT_INT(S, split_experts, "split-experts", NULL, "N", 0, 1024, "each feed-forward becomes N experts of its own neurons, of which each token uses some"),
    OPT_INT(S, experts_used, "experts-used", NULL, "N", 0, 1024, "N of them at work for a token (default: three quarters)"),
    OPT_INT(S, shared_experts, "shared-experts", NULL, "N", 0, 1024, "N of those are always the same: what all tokens need most"),
    OPT_CHOICE(S, split_by, "split-by", NULL, "together|random", "of neurons that the same tokens need, or of any"),
    OPT_INT(S, upcycle, "upcycle", NULL, "N", 0, 1024, "each feed-forward becomes N experts, two of them at work: a start for training"),
    OPT_NUM(S, upcycle_drop, "upcycle-drop", NULL, "X", 0, 1, "upcycle: this part of each expert's neurons begins at random (Drop-Upcycling)"),
    OPT_INT(S, drop_experts, "drop-experts", NULL, "N", 0, 1024, "N of each layer's experts go"),
    OPT_CHOICE(S, experts_by, "experts-by", NULL, "saliency|frequency|random", "which: those that say least, weighed by the router; the least used; any"),
    OPT_STR(S, share, "share", NULL, "LIST", "the layers of each range share their tensors in the file: 10-11,14-16"),
    OPT_INT(S, share_rank, "share-rank", NULL, "N", 0, 4096, "rank of what each layer adds to the shared tensors (default 32)"),
    OPT_CHOICE(S, share_by, "share-by", NULL, "lora|first", "their mean and an addition for each; the first layer's tensors as they are"),
    OPT_NUM(S, dynamic, "dynamic", NULL, "X", 0, 0.9, "this part of the neurons is left out at run time, those that each token's gates say it needs least"),
    OPT_CHOICE(S, dynamic_by, "dynamic-by", NULL, "together|neighbours", "in groups of neurons that are needed together, or as they lie"),
    OPT_INT(S, tokens, "calib-tokens", NULL, "N", 0, 1 << 28, "read at most N tokens of the text (default 4096; vocabulary: all)"),
    OPT_INT(S, seed, "seed", "s", "N", 0, 9e15, "seed of random choices"),
    OPT_INT(S, threads, "threads", "t", "N", 0, 256, "threads (0: one per core)"),
    SMOKE_OPTION(S, no_smoke),
    OPT_FLAG(S, json, "json", NULL, "print the report as JSON"),
    {0},
};
#undef S
const cli_example prune_examples[] = {
    {"mote prune --prune-layers 20,21 in.gguf out.gguf", "without layers 20 and 21"},
    {"mote prune --drop-layers 6 -f text.txt in.gguf out.gguf", "without the six layers that this text misses least"},
    {"mote prune --ratio 0.25 --repair -f text.txt in.gguf out.gguf", "a quarter smaller: neurons go, the weights behind them make up for it"},
    {"mote prune --params 100M --axes ff,layers -f text.txt in.gguf out.gguf", "at most 100 million parameters, from both"},
    {"mote prune --merge-kv 1 -f text.txt in.gguf out.gguf", "to multi-query attention: a KV cache of one head"},
    {"mote prune --linear-count 10 -f text.txt in.gguf out.gguf", "linear attention in the ten layers that miss far keys least"},
    {"mote prune --block-count 15 --block-top 8 -f text.txt in.gguf out.gguf", "fifteen layers read 64 keys here and there"},
    {"mote prune --split-experts 16 --experts-used 12 -f text.txt in.gguf out.gguf", "sixteen experts of each feed-forward's neurons, twelve at work: fewer weights a token"},
    {"mote prune --drop-experts 2 -f text.txt moe.gguf out.gguf", "without the two experts of each layer that matter least"},
    {"mote prune --share 10-11,14-15 --share-rank 64 -f text.txt in.gguf out.gguf", "two blocks serve four layers, each with an addition of its own"},
    {"mote prune --dynamic 0.4 -f text.txt in.gguf out.gguf", "nothing is taken; each token will do without 40 % of the neurons"},
    {"mote prune --vocab 16000 -f text.txt in.gguf out.gguf", "a tokenizer and embeddings of 16000 tokens"},
    {0},
};

/* "100M" -> 100000000; 0 when it is no number. */
static uint64_t parse_count(const char *text) {
    char *end;
    double v = strtod(text, &end);
    double unit = *end == 'k' || *end == 'K' ? 1e3 : *end == 'M' ? 1e6 : *end == 'B' || *end == 'G' ? 1e9 : 1;
    if (end == text || (unit > 1 ? end[1] : end[0]) || !(v > 0) || v * unit > 1e15) return 0;
    return (uint64_t)(v * unit);
}

static bool on_progress(void *ctx, const char *step, size_t done, size_t total) {
    cli_progress *p = ctx;
    p->what = step;
    cli_progress_show(p, (double)done, (double)total, "steps");
    return true;
}

static int print_report(const struct prune_options *o, const mote_prune_report *r, const char *out, const char *in) {
    if (o->json) {
        json_t *all = json_loads(r->json, 0, NULL);
        json_t *smoke = smoke_result(out, in, (int)o->threads, o->no_smoke, true);
        if (all && smoke) (void)json_object_set(all, "smoke", smoke);
        json_decref(smoke);
        return all ? cli_print_json(all) : CLI_BAD_DATA;
    }
    char from[32], to[32];
    (void)fputs(r->text, stdout);
    (void)printf("%.1f M parameters, %s  ->  %.1f M, %s (%.1f s), written to %s\n", (double)r->params_from * 1e-6, cli_size(from, r->bytes_from),
                 (double)r->params_to * 1e-6, cli_size(to, r->bytes_to), r->seconds, out);
    json_decref(smoke_result(out, in, (int)o->threads, o->no_smoke, false));
    return cli_done(CLI_OK);
}

int cmd_prune(const cli_command *self, int argc, char **argv) {
    struct prune_options o = {.linear_window = 64, .linear_steps = 200, .block_top = 4};
    cli_args args;
    int code;
    mote_error err;
    if (!cli_parse(self, &o, &args, 2, argc, argv, &code)) return code;
    if (args.n != 2) return cli_usage(self, "expected IN OUT, as in: mote prune --drop-layers 4 -f text.txt in.gguf out.gguf");
    mote_prune_opts q = mote_prune_opts_default();
    if (o.params && !(q.max_params = parse_count(o.params))) return cli_usage(self, "--params takes a number such as 100M, not '%s'", o.params);
    char *in = models_resolve(args.v[0], &code), *text = NULL;
    if (!in) return code;
    if (o.file && !(text = cli_read_text(o.file, (size_t)1 << 30, &q.n_text, &err))) {
        free(in);
        return cli_fail(&err);
    }
    cli_progress p = cli_progress_start("pruning");
    q.layers = o.layers, q.depth_by = o.depth_by, q.n_layers = (size_t)o.drop_layers;
    q.n_embd = (size_t)o.embd, q.n_ff = (size_t)o.ff, q.n_head = (size_t)o.heads, q.n_head_kv = (size_t)o.kv_heads;
    q.width_by = o.width_by, q.repair = o.repair, q.ratio = o.ratio, q.axes = o.axes, q.divisor = (size_t)o.divisor;
    q.n_merge_kv = (size_t)o.merge_kv, q.merge_by = o.merge_by, q.n_vocab = (size_t)o.vocab, q.vocab_by = o.vocab_by;
    q.window = (size_t)o.window, q.window_layers = o.window_layers, q.n_window = (size_t)o.window_count, q.upcycle = (size_t)o.upcycle, q.upcycle_drop = o.upcycle_drop;
    q.linear_layers = o.linear_layers, q.n_linear = (size_t)o.linear_count, q.linear_window = (size_t)o.linear_window;
    q.linear_features = (size_t)o.linear_features, q.linear_steps = (size_t)o.linear_steps;
    q.block_layers = o.block_layers, q.n_block = (size_t)o.block_count, q.block_size = (size_t)o.block_size;
    q.block_window = (size_t)o.block_window, q.block_top = (size_t)o.block_top;
    q.n_drop_experts = (size_t)o.drop_experts, q.experts_by = o.experts_by;
    q.split_experts = (size_t)o.split_experts, q.experts_used = (size_t)o.experts_used, q.shared_experts = (size_t)o.shared_experts, q.split_by = o.split_by;
    q.share = o.share, q.share_by = o.share_by, q.share_rank = (size_t)o.share_rank;
    q.dynamic = o.dynamic, q.dynamic_by = o.dynamic_by;
    q.text = text, q.n_tokens = (size_t)o.tokens, q.seed = (uint64_t)o.seed, q.n_threads = (int)o.threads;
    q.progress = on_progress, q.progress_ctx = &p;
    mote_prune_report report = {.size = sizeof report};
    mote_status s = mote_prune(in, args.v[1], &q, &report, &err);
    cli_progress_end(&p);
    if (s == MOTE_OK) {
        code = print_report(&o, &report, args.v[1], in);
        mote_prune_report_free(&report);
    } else code = cli_fail(&err);
    free(text);
    free(in);
    return code;
}
