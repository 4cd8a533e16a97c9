/* distil.c: the loss of a student: terms on the outcome and on the inside. See distil.h. */
#include "train/distil_int.h"

#include <math.h>
#include <string.h>

/* ---- terms ---- */
static const struct {
    const char *name;
    distil_kind kind;
} names[] = {{"ce", DISTIL_CE},     {"kl", DISTIL_KL},         {"forward", DISTIL_KL},   {"rkl", DISTIL_RKL},     {"reverse", DISTIL_RKL},
             {"jsd", DISTIL_JSD},   {"uld", DISTIL_ULD},       {"gold", DISTIL_GOLD},     {"span", DISTIL_SPAN}, {"hidden", DISTIL_HIDDEN}, {"cosine", DISTIL_COSINE}, {"relation", DISTIL_RELATION},
             {"attn", DISTIL_ATTN}, {"ffn", DISTIL_FFN}};

static bool is_divergence(distil_kind k) { return k == DISTIL_KL || k == DISTIL_RKL || k == DISTIL_JSD || k == DISTIL_ULD || k == DISTIL_GOLD; }

/* What stands behind the first byte of *s, up to one of `ends`; *s begins there afterwards. */
static str up_to(str *s, const char *ends) {
    size_t n = MIN((size_t)1, s->n);
    while (n < s->n && !strchr(ends, s->p[n])) n++;
    str part = {s->p + MIN((size_t)1, s->n), n - MIN((size_t)1, s->n)};
    *s = (str){s->p + n, s->n - n};
    return part;
}

static mote_status parse_term(distil_term *t, str text, mote_error *err) {
    size_t n = 0, i = 0;
    while (n < text.n && text.p[n] != '=' && text.p[n] != '@') n++;
    while (i < COUNT_OF(names) && !(strlen(names[i].name) == n && strncmp(names[i].name, text.p, n) == 0)) i++;
    if (i == COUNT_OF(names)) FAIL(err, MOTE_E_USAGE, "loss '%.*s': expected ce, kl, rkl, jsd, uld, gold, span, hidden, cosine, attn, ffn or relation, as in kl=1,ce=0.1,hidden=0.5@0-0.4", STR_ARG(text));
    *t = (distil_term){names[i].kind, 1, 0, 1};
    double by = 1;
    bool good = true;
    str rest = {text.p + n, text.n - n};
    if (rest.n && *rest.p == '=') {
        str number = up_to(&rest, "@");
        good = str_to_double(number, &by);
    }
    if (rest.n && *rest.p == '@') {
        str from = up_to(&rest, "-"), until = up_to(&rest, "");
        good = good && str_to_double(from, &t->from) && str_to_double(until, &t->until);
    }
    t->weight = (float)by;
    if (!good || !(t->weight > 0 && t->weight <= 1e6f) || !(t->from >= 0 && t->from < t->until && t->until <= 1))
        FAIL(err, MOTE_E_USAGE, "loss '%.*s': expected NAME=WEIGHT@FROM-UNTIL with a weight above 0 and shares of the run from 0 to 1", STR_ARG(text));
    return MOTE_OK;
}

mote_status distil_terms(distil_term *dst, size_t *n, const char *text, mote_error *err) {
    *n = 0;
    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");
        if (*n == DISTIL_TERMS_MAX) FAIL(err, MOTE_E_LIMIT, "more than %d losses", DISTIL_TERMS_MAX);
        TRY(parse_term(&dst[*n], (str){p, len}, err));
        for (size_t i = 0; i < *n; i++) {
            const distil_term *a = &dst[i], *b = &dst[*n];
            if (a->from < b->until && b->from < a->until && (a->kind == b->kind || (is_divergence(a->kind) && is_divergence(b->kind))))
                FAIL(err, MOTE_E_USAGE, "loss '%.*s': another divergence counts at the same time; give them stages, as in kl@0-0.7,rkl@0.7-1", (int)len, p);
        }
        (*n)++;
        p += len + (p[len] == ',');
    }
    if (*n == 0) FAIL(err, MOTE_E_USAGE, "no loss: at least one of ce, kl, rkl, jsd, uld, gold, span, hidden, cosine, attn, ffn, relation");
    return MOTE_OK;
}

/* ---- a distiller ---- */
struct distil {
    distil_opts o;
    distil_term terms[DISTIL_TERMS_MAX];
    const model *sm, *tm; /* tm NULL: no teacher */
    var proj;             /* [teacher's width, student's]; rows 0: widths are the same */
    var map_proj[DISTIL_MAPS]; /* the same for feature maps */
    distil_maps ours, theirs;  /* n NULL: no loss on feature maps */
    int32_t *layer_map;   /* or NULL */
    size_t rel_student, rel_teacher; /* layers */
    double progress;
    const distill_top *top;
    distil_figures sums;
    double sum_rows;
};

static const distil_term *term_now(const distil *d, distil_kind k) {
    double at = fmin(d->progress, 0.999999);
    for (size_t i = 0; i < d->o.n_terms; i++)
        if (d->terms[i].kind == k && d->terms[i].from <= at && at < d->terms[i].until) return &d->terms[i];
    return NULL;
}

static const distil_term *divergence_now(const distil *d) {
    static const distil_kind kinds[] = {DISTIL_KL, DISTIL_RKL, DISTIL_JSD, DISTIL_ULD, DISTIL_GOLD};
    const distil_term *t = NULL;
    for (size_t i = 0; i < COUNT_OF(kinds) && !t; i++) t = term_now(d, kinds[i]);
    return t;
}

static bool ever(const distil *d, distil_kind k) {
    for (size_t i = 0; i < d->o.n_terms; i++)
        if (d->terms[i].kind == k) return true;
    return false;
}

/* The teacher's layer that stands where the student's layer `il` of n does. */
static size_t layer_of(size_t il, size_t n, size_t n_teacher) { return (il * n_teacher + n / 2) / n; }

/* The teacher's layer that the student's layer il, both from 0 on, is compared with; -1: none. */
static int32_t pair_of(const distil *d, size_t il) {
    if (d->layer_map) return d->layer_map[il];
    return (int32_t)MAX(layer_of(il + 1, d->sm->hp.n_layer, d->tm->hp.n_layer), (size_t)1) - 1;
}

static bool has_attention(const model *m, size_t il) { return m->layers[il].mixer[0] == &block_attn || m->layers[il].mixer[1] == &block_attn; }

static mote_status choose_relation(distil *d, mote_error *err) {
    size_t ns = d->sm->hp.n_layer, nt = d->tm->hp.n_layer, at = d->o.relation_set ? d->o.relation_layer : ns * 5 / 6;
    if (at >= ns) FAIL(err, MOTE_E_RANGE, "layer %zu: the student has %zu", at, ns);
    for (size_t i = at + 1; i-- > 0;) {
        size_t t = MIN(layer_of(i, ns, nt), nt - 1);
        if (!has_attention(d->sm, i) || !has_attention(d->tm, t)) continue;
        d->rel_student = i;
        d->rel_teacher = t;
        return MOTE_OK;
    }
    FAIL(err, MOTE_E_UNSUPPORTED, "the loss 'relation' needs a layer with attention in both models");
}

static mote_status check(distil *d, mote_error *err) {
    bool inside = ever(d, DISTIL_HIDDEN) || ever(d, DISTIL_COSINE) || ever(d, DISTIL_RELATION) || ever(d, DISTIL_ATTN) || ever(d, DISTIL_FFN);
    if (!d->tm && inside) FAIL(err, MOTE_E_USAGE, "losses on hidden states need the teacher itself");
    if ((ever(d, DISTIL_SPAN) || ever(d, DISTIL_GOLD)) && !d->o.align) {
        FAIL(err, MOTE_E_USAGE, "the loss '%s' is for vocabularies that differ: it needs --align", ever(d, DISTIL_GOLD) ? "gold" : "span");
    }
    if (inside && d->o.align) FAIL(err, MOTE_E_USAGE, "losses on hidden states compare token by token: they need one vocabulary for both models");
    if (d->tm && !d->o.align && d->sm->hp.n_vocab != d->tm->hp.n_vocab) {
        size_t a = d->sm->hp.n_vocab, b = d->tm->hp.n_vocab;
        tok_vocab *va = NULL, *vb = NULL;
        bool same = tok_open(&va, d->sm->file, NULL, NULL) == MOTE_OK && tok_open(&vb, d->tm->file, NULL, NULL) == MOTE_OK && distil_same_vocab(va, vb);
        tok_close(&va);
        tok_close(&vb);
        if (!same)
            FAIL(err, MOTE_E_MISMATCH, "the student has a vocabulary of %zu tokens and the teacher one of %zu, and they are not the same: use --align to compare them by text", a, b);
    }
    return ever(d, DISTIL_RELATION) ? choose_relation(d, err) : MOTE_OK;
}

static mote_status make_projection(distil *d, var *proj, size_t cs, size_t ct, uint64_t stream, mote_error *err) {
    if (cs == ct) return MOTE_OK;
    *proj = (var){.rows = ct, .cols = cs, .wants = true, .x = mem_alloc_aligned(ct * cs * sizeof(float))};
    if (!proj->x) FAIL(err, MOTE_E_MEMORY, "out of memory");
    rng r;
    rng_seed(&r, d->o.seed, stream);
    for (size_t i = 0; i < ct * cs; i++) /* nearly normal, of variance 1 / cs */
        proj->x[i] = (float)((rng_double(&r) + rng_double(&r) + rng_double(&r) + rng_double(&r) - 2) * sqrt(3.0 / (double)cs));
    return MOTE_OK;
}

/* One projection serves all layers of a kind, so their widths must be the same. */
static mote_status open_maps(distil *d, mote_error *err) {
    TRY(distil_maps_open(&d->ours, d->o.student, err));
    TRY(distil_maps_open(&d->theirs, d->o.teacher, err));
    for (size_t k = 0; k < DISTIL_MAPS; k++) {
        size_t cs = 0, ct = 0;
        if (!ever(d, k ? DISTIL_FFN : DISTIL_ATTN)) continue;
        for (size_t il = 0; il < d->sm->hp.n_layer; il++) {
            int32_t at = pair_of(d, il);
            const param *a = distil_maps_weight(&d->ours, k, il), *b = at >= 0 ? distil_maps_weight(&d->theirs, k, (size_t)at) : NULL;
            if (!a || !b) continue;
            if (cs && (a->v.cols != cs || b->v.cols != ct))
                FAIL(err, MOTE_E_MISMATCH, "the loss '%s': layer %zu has %zu and %zu columns, one before it %zu and %zu; one projection serves all",
                     k ? "ffn" : "attn", il + 1, a->v.cols, b->v.cols, cs, ct);
            cs = a->v.cols;
            ct = b->v.cols;
        }
        if (!cs) FAIL(err, MOTE_E_UNSUPPORTED, "the loss '%s': no pair of layers has such a feature map", k ? "ffn" : "attn");
        TRY(make_projection(d, &d->map_proj[k], cs, ct, 78 + k, err));
    }
    return MOTE_OK;
}

static mote_status open_inside(distil *d, mote_error *err) {
    size_t n = d->sm->hp.n_layer;
    if (d->o.layer_map && d->tm) {
        if (!(d->layer_map = MEM_NEW_N(int32_t, n))) FAIL(err, MOTE_E_MEMORY, "out of memory");
        memcpy(d->layer_map, d->o.layer_map, n * sizeof *d->layer_map);
    }
    if (ever(d, DISTIL_HIDDEN) || ever(d, DISTIL_COSINE)) TRY(make_projection(d, &d->proj, d->sm->hp.n_embd, d->tm->hp.n_embd, 77, err));
    return ever(d, DISTIL_ATTN) || ever(d, DISTIL_FFN) ? open_maps(d, err) : MOTE_OK;
}

mote_status distil_open(distil **out, const distil_opts *o, mote_error *err) {
    distil *d = MEM_NEW(distil);
    mote_status s;
    if (!d) FAIL(err, MOTE_E_MEMORY, "out of memory");
    d->o = *o;
    memcpy(d->terms, o->terms, o->n_terms * sizeof *o->terms);
    if (!(d->o.temperature > 0)) d->o.temperature = 1;
    if (!(d->o.beta > 0 && d->o.beta < 1)) d->o.beta = 0.5f;
    d->sm = net_model(o->student);
    d->tm = o->teacher ? net_model(o->teacher) : NULL;
    TRYG(s, check(d, err));
    TRYG(s, open_inside(d, err));
    *out = d;
    return MOTE_OK;
out:
    distil_close(&d);
    return s;
}

void distil_close(distil **d) {
    if (!*d) return;
    mem_free_aligned((*d)->proj.x);
    for (size_t k = 0; k < DISTIL_MAPS; k++) mem_free_aligned((*d)->map_proj[k].x);
    distil_maps_close(&(*d)->ours);
    distil_maps_close(&(*d)->theirs);
    mem_free((*d)->layer_map);
    mem_free(*d);
    *d = NULL;
}

size_t distil_params(distil *d, train_param *dst, size_t cap) {
    size_t n = trainer_net_params(d->o.student, false, NULL, 0), count = 0;
    if (!d->o.qat) count = trainer_net_params(d->o.student, false, dst, cap);
    else {
        train_param *all = MEM_NEW_N(train_param, n ? n : 1);
        if (!all) return 0;
        n = trainer_net_params(d->o.student, false, all, n);
        count = qat_params(d->o.qat, all, n, dst, cap);
        mem_free(all);
    }
    var *extra[] = {&d->proj, &d->map_proj[0], &d->map_proj[1]};
    static const char *const extra_names[] = {"distil.projection", "distil.projection.attn", "distil.projection.ffn"};
    for (size_t i = 0; i < COUNT_OF(extra); i++) {
        if (extra[i]->rows == 0) continue;
        if (count < cap) dst[count] = (train_param){.name = str_of(extra_names[i]), .v = extra[i], .decay = true};
        count++;
    }
    return count;
}

void distil_part_done(distil *d) {
    if (d->o.qat) qat_end(d->o.qat);
}
void distil_grads_done(distil *d) {
    if (d->o.qat) qat_grads(d->o.qat);
}
void distil_updated(distil *d) {
    if (d->o.qat) qat_changed(d->o.qat);
}
void distil_at(distil *d, double progress) { d->progress = progress; }
void distil_set_top(distil *d, const distill_top *top) { d->top = top; }

distil_figures distil_take_figures(distil *d) {
    distil_figures f = d->sums;
    double by = d->sum_rows > 0 ? 1 / d->sum_rows : 0;
    f.divergence *= by;
    f.ce *= by;
    f.agree *= by;
    f.inside *= by;
    f.rows = (uint64_t)d->sum_rows;
    d->sums = (distil_figures){0};
    d->sum_rows = 0;
    return f;
}

/* ---- passes ---- */
/* What a pass leaves behind, in arrays of the tape. */
static bool want_inside(net_inside *in, tape *t, size_t n_layer, bool streams, bool relation) {
    size_t bytes = (n_layer + 1) * sizeof(var *);
    *in = (net_inside){0};
    if (streams && !(in->layers = tape_mem(t, bytes))) return false;
    if (streams) memset(in->layers, 0, bytes);
    if (!relation) return true;
    in->q = tape_mem(t, bytes);
    in->k = tape_mem(t, bytes);
    in->v = tape_mem(t, bytes);
    if (!in->q || !in->k || !in->v) return false;
    memset(in->q, 0, bytes);
    memset(in->k, 0, bytes);
    memset(in->v, 0, bytes);
    return true;
}

/* The teacher's final rows, layer by layer, keeping nothing else. */
static var *teacher_rows(net *n, tape *t, const int32_t *ids, const ad_seqs *s) {
    size_t n_layer = net_model(n)->hp.n_layer, width = net_model(n)->hp.n_embd;
    float *stream = tape_mem(t, MAX(s->n * width, (size_t)1) * sizeof *stream);
    if (!stream) return NULL;
    for (size_t il = 0; il < n_layer; il++) {
        tape_spot spot = tape_mark(t);
        net_inside one = {.from = il, .until = il + 1, .x = tape_const(t, s->n, width, stream)};
        var *x = net_hidden(n, t, ids, s, &one);
        if (!x) return NULL;
        memcpy(stream, x->x, s->n * width * sizeof *stream);
        tape_release(t, spot);
    }
    return tape_const(t, s->n, width, stream);
}

static var *teach(const distil *d, tape *t, const int32_t *ids, const ad_seqs *s, net_inside *in, bool all) {
    tape_pause(t);
    var *h = all ? net_hidden(d->o.teacher, t, ids, s, in) : teacher_rows(d->o.teacher, t, ids, s);
    tape_resume(t);
    return h;
}

/* ---- terms on the inside ---- */
static var *normed(tape *t, var *x) { return ad_rms_norm(t, x, NULL, NULL, x ? x->cols : 0, 1e-6f); }

/* Every stream that leaves one of the student's layers against that of the teacher's in the same place. */
static var *stream_loss(distil *d, tape *t, const net_inside *s, const net_inside *teacher, const float *weights, bool cosine) {
    size_t n = 0;
    var *sum = NULL;
    for (size_t il = 0; il < d->sm->hp.n_layer; il++) {
        int32_t at = pair_of(d, il);
        if (at < 0) continue;
        n++;
        var *x = s->layers[il + 1], *y = teacher->layers[at + 1];
        if (d->proj.rows) x = ad_linear(t, x, &d->proj);
        var *l = cosine ? ad_match_cosine(t, x, y, weights) : ad_match_mse(t, normed(t, x), normed(t, y), weights);
        if (!l) return NULL;
        sum = sum ? ad_add(t, sum, l) : l;
    }
    return ad_scale(t, sum, 1 / (float)n);
}

/* The same of what goes into a matrix of every layer. */
static var *map_loss(distil *d, tape *t, size_t kind, const float *weights) {
    size_t n = 0;
    var *sum = NULL;
    for (size_t il = 0; il < d->sm->hp.n_layer; il++) {
        int32_t at = pair_of(d, il);
        var *x = distil_maps_seen(&d->ours, kind, il), *y = at >= 0 ? distil_maps_seen(&d->theirs, kind, (size_t)at) : NULL;
        if (!x || !y) continue;
        n++;
        if (d->map_proj[kind].rows) x = ad_linear(t, x, &d->map_proj[kind]);
        var *l = ad_match_mse(t, normed(t, x), normed(t, y), weights);
        if (!l) return NULL;
        sum = sum ? ad_add(t, sum, l) : l;
    }
    return ad_scale(t, sum, 1 / (float)MAX(n, (size_t)1));
}

/* As many parts as both widths allow with 64 columns or more in each. */
static size_t parts_of(size_t a, size_t b) {
    size_t x = a, y = b;
    while (y) {
        size_t rest = x % y;
        x = y;
        y = rest;
    }
    for (size_t r = x; r > 1; r--)
        if (x % r == 0 && a / r >= 64 && b / r >= 64) return r;
    return 1;
}

static var *relation_loss(const distil *d, tape *t, const net_inside *s, const net_inside *teacher, const ad_seqs *seqs) {
    var *sum = NULL, *const *ours[3] = {s->q, s->k, s->v}, *const *theirs[3] = {teacher->q, teacher->k, teacher->v};
    for (int i = 0; i < 3; i++) {
        var *x = ours[i][d->rel_student], *y = theirs[i][d->rel_teacher];
        var *l = x && y ? ad_match_relation(t, x, y, parts_of(x->cols, y->cols), true, seqs) : NULL;
        if (!l) return NULL;
        sum = sum ? ad_add(t, sum, l) : l;
    }
    return sum;
}

static var *plus(tape *t, var *sum, var *l, float by) {
    if (!l) return NULL;
    return sum ? ad_add_scaled(t, sum, l, by) : ad_scale(t, l, by);
}

/* All terms on the inside that count now; *out NULL and true: there is none. False: out of memory. */
static bool inside_loss(distil *d, tape *t, const data_batch *b, const net_inside *s, const net_inside *teacher, double share, var **out) {
    static const distil_kind kinds[] = {DISTIL_HIDDEN, DISTIL_COSINE, DISTIL_RELATION, DISTIL_ATTN, DISTIL_FFN};
    *out = NULL;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        const distil_term *k = term_now(d, kinds[i]);
        if (!k) continue;
        var *l = kinds[i] >= DISTIL_ATTN && kinds[i] <= DISTIL_FFN ? map_loss(d, t, kinds[i] - DISTIL_ATTN, b->weights)
                 : kinds[i] == DISTIL_RELATION ? relation_loss(d, t, s, teacher, &b->seqs) : stream_loss(d, t, s, teacher, b->weights, kinds[i] == DISTIL_COSINE);
        if (!l) return false;
        d->sums.inside += (double)k->weight * (double)l->x[0] * b->sum_weight;
        *out = plus(t, *out, l, (float)((double)k->weight * share));
        if (!*out) return false;
    }
    return true;
}

/* ---- terms on the outcome ---- */
static distill_opts outcome(const distil *d, const distil_term *div, const distil_term *ce) {
    static const distill_kind kinds[] = {[DISTIL_KL] = DISTILL_FORWARD, [DISTIL_RKL] = DISTILL_REVERSE, [DISTIL_JSD] = DISTILL_JSD,
                                         [DISTIL_ULD] = DISTILL_SORTED, [DISTIL_GOLD] = DISTILL_HYBRID};
    return (distill_opts){.kind = div ? kinds[div->kind] : DISTILL_FORWARD, .beta = d->o.beta, .temperature = d->o.temperature,
                          .weight = div ? div->weight : 0, .ce = ce ? ce->weight : 0};
}

static void note(distil *d, const distill_seen *seen, double rows, bool divergence, bool ce) {
    if (divergence) {
        d->sums.divergence += rows * seen->divergence;
        d->sums.agree += rows * seen->agree;
    }
    if (ce) d->sums.ce += rows * seen->ce;
}

/* No row of a part can be compared (its text is spelled otherwise): it teaches nothing. */
static var *nothing(tape *t) {
    var *v = tape_var(t, 1, 1, false);
    if (v) v->x[0] = 0;
    return v;
}

/* Rows with a border in common, spans between them, and cross-entropy on all. */
static var *border_loss(distil *d, tape *t, const data_batch *b, const distil_aligned *a, var *h, var *th, const distil_term *div, double sum_weight) {
    distill_seen seen;
    ad_head head = net_head(d->o.student), theirs = net_head(d->o.teacher);
    float *w = tape_mem(t, MAX(a->n, (size_t)1) * sizeof *w);
    if (!w) return NULL;
    for (size_t i = 0; i < a->n; i++) w[i] = b->weights ? b->weights[a->ours_at[i]] : 1;
    distill_opts o = outcome(d, div, NULL);
    o.map = div->kind == DISTIL_ULD ? NULL : div->kind == DISTIL_GOLD ? distil_align_same(d->o.align) : distil_align_map(d->o.align);
    o.seen = &seen;
    var *loss = ad_distill(t, ad_rows(t, h, a->ours_at, a->n), &head, ad_rows(t, th, a->theirs_at, a->n), &theirs,
                           &(ad_targets){.weights = w, .sum_weight = sum_weight}, &o);
    if (loss) note(d, &seen, b->sum_weight, true, false);
    return loss;
}

static var *spans_loss(distil *d, tape *t, const data_batch *b, const distil_aligned *a, var *h, var *th, const distil_term *span, double sum_weight) {
    ad_head head = net_head(d->o.student), theirs = net_head(d->o.teacher);
    if (a->n_spans == 0) return nothing(t);
    var *l = distil_span_loss(t, h, &head, th, &theirs, b, a, sum_weight);
    if (l) d->sums.inside += (double)span->weight * (double)l->x[0] * sum_weight;
    return ad_scale(t, l, span->weight);
}

static var *aligned_loss(distil *d, tape *t, const data_batch *b, var *h, double sum_weight, mote_error *err) {
    distil_aligned a;
    distill_seen seen;
    const distil_term *div = divergence_now(d), *span = term_now(d, DISTIL_SPAN), *ce = term_now(d, DISTIL_CE);
    var *loss = NULL;
    if (!span && div && div->kind == DISTIL_GOLD) span = div; /* merging spans is a part of it */
    if (div || span) {
        if (distil_align_batch(d->o.align, b, &a, err) != MOTE_OK) return NULL;
        net_inside none = {0};
        if (a.n == 0) return nothing(t);
        var *th = teach(d, t, a.theirs.ids, &a.theirs.seqs, &none, false);
        if (!th) return NULL;
        if (div && !(loss = border_loss(d, t, b, &a, h, th, div, sum_weight))) return NULL;
        var *l = span ? spans_loss(d, t, b, &a, h, th, span, sum_weight) : NULL;
        if (span && !l) return NULL;
        loss = loss && l ? ad_add(t, loss, l) : l ? l : loss;
    }
    if (!ce) return loss;
    ad_head head = net_head(d->o.student);
    distill_opts o = outcome(d, NULL, ce);
    o.seen = &seen;
    var *l = ad_distill_top(t, h, &head, NULL, &(ad_targets){.target = b->target, .weights = b->weights, .sum_weight = sum_weight}, &o);
    if (l) note(d, &seen, b->sum_weight, false, true);
    return l && loss ? ad_add(t, loss, l) : l;
}

static var *outcome_loss(distil *d, tape *t, const data_batch *b, var *h, var *th, double sum_weight) {
    distill_seen seen;
    distill_opts o = outcome(d, divergence_now(d), term_now(d, DISTIL_CE));
    ad_head head = net_head(d->o.student);
    ad_targets rows = {.target = b->target, .weights = b->weights, .sum_weight = sum_weight};
    o.seen = &seen;
    if (!(o.weight > 0) && !(o.ce > 0)) return NULL;
    var *l;
    if (th && o.weight > 0) {
        ad_head theirs = net_head(d->o.teacher);
        l = ad_distill(t, h, &head, th, &theirs, &rows, &o);
    } else l = ad_distill_top(t, h, &head, d->top, &rows, &o);
    if (l) note(d, &seen, b->sum_weight, o.weight > 0, o.ce > 0);
    return l;
}

var *distil_loss(void *ctx, tape *t, const data_batch *b, double sum_weight, mote_error *err) {
    distil *d = ctx;
    const distil_term *div = divergence_now(d);
    bool streams = term_now(d, DISTIL_HIDDEN) || term_now(d, DISTIL_COSINE), relation = term_now(d, DISTIL_RELATION);
    bool maps = term_now(d, DISTIL_ATTN) || term_now(d, DISTIL_FFN), inside = streams || relation || maps;
    bool on_rows = div || term_now(d, DISTIL_SPAN) || term_now(d, DISTIL_CE), teacher = !d->o.align && d->o.teacher && (div || inside);
    net_inside is, it;
    if (d->o.qat) qat_begin(d->o.qat);
    if (!want_inside(&is, t, d->sm->hp.n_layer, streams, relation) || (d->tm && !want_inside(&it, t, d->tm->hp.n_layer, streams, relation))) return NULL;
    if (maps) distil_maps_watch(&d->theirs);
    var *th = teacher ? teach(d, t, b->ids, &b->seqs, &it, inside) : NULL;
    if (maps) distil_maps_unwatch(&d->theirs);
    if (teacher && !th) return NULL;
    if (maps) distil_maps_watch(&d->ours);
    var *h = net_hidden(d->o.student, t, b->ids, &b->seqs, inside ? &is : NULL), *loss = NULL;
    if (maps) distil_maps_unwatch(&d->ours);
    if (d->o.qat) h = qat_head_input(d->o.qat, t, h);
    if (on_rows) loss = d->o.align ? aligned_loss(d, t, b, h, sum_weight, err) : outcome_loss(d, t, b, h, th, sum_weight);
    if (on_rows && !loss) return NULL;
    d->sum_rows += b->sum_weight;
    if (!inside) return loss;
    var *in;
    if (!inside_loss(d, t, b, &is, &it, b->sum_weight / sum_weight, &in)) return NULL;
    return in && loss ? ad_add(t, loss, in) : in ? in : loss;
}

size_t distil_state_width(const distil *d) { return (d->tm ? d->tm : d->sm)->hp.n_embd; }

/* Both models over a batch, nothing trained: divergence (forward, T 1), or cross-entropy where there is no teacher to compare with token by
 * token. *final: the teacher's final rows, or the student's. */
static var *measure(distil *d, tape *t, const data_batch *b, bool ce, distill_seen *seen, var **final) {
    net_inside none = {0};
    bool dense = d->o.teacher && !d->o.align;
    ad_head head = net_head(d->o.student);
    ad_targets rows = {.target = b->target, .weights = b->weights};
    distill_opts o = {.kind = DISTILL_FORWARD, .weight = dense ? 1 : 0, .ce = ce || !dense ? 1 : 0, .seen = seen};
    var *th = dense ? teach(d, t, b->ids, &b->seqs, &none, false) : NULL, *h = teacher_rows(d->o.student, t, b->ids, &b->seqs);
    if (d->o.qat) h = qat_head_input(d->o.qat, t, h);
    *final = dense ? th : h;
    if (!dense) return ad_distill_top(t, h, &head, NULL, &rows, &o);
    ad_head theirs = net_head(d->o.teacher);
    return ad_distill(t, h, &head, th, &theirs, &rows, &o);
}

static mote_status measured(distil *d, tape *t, const data_batch *b, bool ce, distill_seen *seen, var **final, mote_error *err) {
    tape_reset(t);
    tape_pause(t);
    if (d->o.qat) qat_begin(d->o.qat);
    var *l = measure(d, t, b, ce, seen, final);
    if (d->o.qat) qat_end(d->o.qat);
    tape_resume(t);
    TRY(tape_status(t, err));
    if (!l) FAIL(err, MOTE_E_MEMORY, "out of memory");
    return MOTE_OK;
}

mote_status distil_measure(distil *d, tape *t, const data_batch *b, distill_seen *out, mote_error *err) {
    var *final;
    return measured(d, t, b, true, out, &final, err);
}

mote_status distil_look(distil *d, tape *t, const data_batch *b, size_t most, double *loss, float *mean, uint64_t *tokens, mote_error *err) {
    size_t n = MIN(most, b->seqs.n), w = distil_state_width(d);
    const uint32_t start[2] = {0, (uint32_t)n};
    data_batch cut = {.seqs = {.n = n, .n_seq = 1, .start = start, .pos = b->seqs.pos}, .ids = b->ids, .target = b->target, .weights = b->weights};
    distill_seen seen;
    var *rows;
    *loss = 0;
    *tokens += n;
    if (n < 2) return MOTE_OK;
    TRY(measured(d, t, &cut, false, &seen, &rows, err));
    *loss = d->o.teacher && !d->o.align ? seen.divergence : seen.ce;
    if (!mean) return MOTE_OK;
    memset(mean, 0, w * sizeof *mean);
    for (size_t i = 0; i < n; i++) tape_kern(t)->axpy(mean, rows->x + i * w, 1 / (float)n, w);
    return MOTE_OK;
}

/* ---- what a teacher thinks, kept ---- */
struct keeping {
    const kern_table *k;
    const float *z;
    float *work;
    size_t vocab, top, first;
    float temperature;
    uint32_t *ids;
    float *logp, *rest;
};

static void keep_part(void *ctx, size_t from, size_t to, int ith) {
    struct keeping *a = ctx;
    for (size_t i = from; i < to; i++) {
        size_t at = a->first + i;
        distill_keep_top(a->k, a->z + i * a->vocab, a->vocab, a->temperature, a->top, a->ids + at * a->top, a->logp + at * a->top, a->rest + at,
                         a->work + (size_t)ith * a->vocab);
    }
}

mote_status distil_keep(net *teacher, tape *t, const data_batch *b, float temperature, distil_cache_writer *w, size_t k, mote_error *err) {
    size_t n = 0, vocab = net_model(teacher)->hp.n_vocab;
    int32_t *at = MEM_NEW_N(int32_t, b->seqs.n + 1);
    bool *counts = MEM_NEW_N(bool, b->seqs.n + 1);
    struct keeping a = {.vocab = vocab, .top = k, .temperature = temperature};
    mote_status s = MOTE_OK;
    for (size_t q = 0; at && counts && q < b->seqs.n_seq; q++) {
        for (size_t i = b->seqs.start[q]; i < b->seqs.start[q + 1]; i++) { /* what follows a sequence's last token is not in the file */
            counts[i] = i + 1 < b->seqs.start[q + 1] && b->target[i] >= 0 && !(b->weights && !(b->weights[i] > 0));
            if (counts[i]) at[n++] = (int32_t)i;
        }
    }
    a.ids = mem_calloc(n + 1, k * sizeof *a.ids);
    a.logp = mem_calloc(n + 1, k * sizeof *a.logp);
    a.rest = MEM_NEW_N(float, n + 1);
    if (!at || !counts || !a.ids || !a.logp || !a.rest) FAILG(s, err, MOTE_E_MEMORY, "out of memory");
    tape_reset(t);
    tape_pause(t);
    a.k = tape_kern(t);
    ad_head head = net_head(teacher);
    var *h = teacher_rows(teacher, t, b->ids, &b->seqs);
    a.work = tape_mem(t, (size_t)tape_threads(t) * vocab * sizeof(float));
    size_t chunk = ad_head_chunk(&head, n);
    for (a.first = 0; h && a.work && a.first < n; a.first += chunk) {
        tape_spot spot = tape_mark(t);
        size_t m = MIN(chunk, n - a.first);
        var *z = ad_linear(t, ad_rows(t, h, at + a.first, m), head.w);
        if (head.b) z = ad_add_row(t, z, head.b);
        if (head.scale != 1) z = ad_scale(t, z, head.scale);
        if (head.softcap > 0) z = ad_softcap(t, z, head.softcap);
        if (!z) break;
        a.z = z->x;
        tape_for(t, m, 1, keep_part, &a);
        tape_release(t, spot);
    }
    tape_resume(t);
    TRYG(s, tape_status(t, err));
    for (size_t i = 0, m = 0; i < b->seqs.n_seq; i++) {
        size_t from = b->seqs.start[i], to = b->seqs.start[i + 1], own = 0;
        for (size_t j = from; j < to; j++) own += counts[j];
        TRYG(s, distil_cache_add(w, b->ids + from, counts + from, to - from, a.ids + m * k, a.logp + m * k, a.rest + m, err));
        m += own;
    }
out:
    mem_free(at);
    mem_free(counts);
    mem_free(a.ids);
    mem_free(a.logp);
    mem_free(a.rest);
    return s;
}
