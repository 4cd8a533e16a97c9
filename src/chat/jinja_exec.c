/* jinja_exec.c: statements, scopes, loops and macros; and jinja_render, which sets up the machine.
 *
 * Scopes: the top level is a table by name number. for, with, macro, call, block, filter blocks and block
 * assignments open a scope; if does not. Assignment goes to the innermost scope, a lookup goes outwards. */
#include "chat/jinja_int.h"

/* ---- scopes ---- */

mote_status jinja_push_scope(jvm *vm, jscope *parent, jscope **out) {
    jscope *s;
    TRY(jinja_alloc(vm, 1, sizeof *s, &s));
    s->parent = parent;
    vm->scope = s;
    if (out) *out = s;
    return MOTE_OK;
}

mote_status jinja_set_var(jvm *vm, uint32_t name, jval v) {
    jscope *s = vm->scope;
    if (!s) {
        vm->root[name] = v;
        return MOTE_OK;
    }
    for (uint32_t i = 0; i < s->n; i++)
        if (s->vars[i].name == name) {
            s->vars[i].v = v;
            return MOTE_OK;
        }
    TRY(jinja_spend(vm, s->n / 4));
    if (s->n == s->cap) {
        jvar *vars;
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        TRY(jinja_alloc(vm, cap, sizeof *vars, &vars));
        if (s->n) memcpy(vars, s->vars, s->n * sizeof *vars);
        s->vars = vars;
        s->cap = cap;
    }
    s->vars[s->n++] = (jvar){name, v};
    return MOTE_OK;
}

static mote_status assign_attr(jvm *vm, const jnode *t, jval v) {
    jval ns, key = jstring(t->text);
    const jnode name = {.kind = N_NAME, .name = t->name, .line = t->line};
    TRY(jinja_eval(vm, &name, &ns));
    if (ns.t != JT_NS) RAISE(vm, "cannot assign attribute on non-namespace object");
    return jinja_dict_put(vm, ns.d, key, v);
}

mote_status jinja_assign(jvm *vm, const jnode *t, jval v) {
    jval *items;
    uint32_t n;
    if (t->kind == N_NAME) return jinja_set_var(vm, t->name, v);
    if (t->kind == N_NSREF) return assign_attr(vm, t, v);
    vm->line = t->line;
    if (!jinja_iterable(v)) RAISE(vm, "cannot unpack non-iterable %s object", jinja_type_name(v));
    TRY(jinja_items(vm, v, &items, &n));
    if (n > t->items.n) RAISE(vm, "too many values to unpack (expected %u)", t->items.n);
    if (n < t->items.n) RAISE(vm, "not enough values to unpack (expected %u, got %u)", t->items.n, n);
    for (uint32_t i = 0; i < n; i++) TRY(jinja_assign(vm, t->items.v[i], items[i]));
    return MOTE_OK;
}

/* ---- capturing what a body prints ---- */

static mote_status capture(jvm *vm, const jnodes *body, jval *out) {
    jbuild b, *outer = vm->out;
    jinja_build_init(&b, vm);
    b.max = outer->max;
    vm->out = &b;
    TRY(jinja_run(vm, body));
    vm->out = outer;
    return jinja_build_done(&b, out);
}

/* The same in a scope of its own, inside `parent`. */
static mote_status capture_scoped(jvm *vm, const jnodes *body, jval *out) {
    jscope *outer = vm->scope;
    TRY(jinja_push_scope(vm, outer, NULL));
    TRY(capture(vm, body, out));
    vm->scope = outer;
    return MOTE_OK;
}

/* ---- loops ---- */

/* Pulls items from the source until l holds `want`, or the source ends. */
mote_status jinja_loop_pull(jvm *vm, jloop *l, uint32_t want) {
    const jnode *test = l->node->c;
    jscope *outer = vm->scope;
    while (l->n < want && l->n_src) {
        jval v = *l->src++, keep = jbool(true);
        l->n_src--;
        if (l->it) l->it->pos++;
        TRY(jinja_spend(vm, 1));
        if (test) {
            vm->scope = l->test_scope;
            TRY(jinja_assign(vm, l->node->a, v));
            TRY(jinja_eval(vm, test, &keep));
            vm->scope = outer;
        }
        if (jinja_truth(keep)) l->v[l->n++] = v;
    }
    return MOTE_OK;
}

static mote_status loop_start(jvm *vm, const jnode *n, jval iterable, jscope *outer, jloop *l) {
    jval *items;
    uint32_t count, pos = iterable.t == JT_ITER ? iterable.l->pos : 0;
    TRY(jinja_items(vm, iterable, &items, &count));
    *l = (jloop){.node = n, .scope = outer, .changed = JMISSING};
    if (iterable.t != JT_ITER && !n->c) {
        l->v = items;
        l->n = count;
        return MOTE_OK;
    }
    TRY(jinja_alloc(vm, count, sizeof *l->v, &l->v));
    l->src = items;
    l->n_src = count;
    if (iterable.t == JT_ITER) {
        l->it = iterable.l;
        l->it->pos = pos;
    }
    if (n->c) {
        jscope *now = vm->scope;
        TRY(jinja_push_scope(vm, outer, &l->test_scope));
        vm->scope = now;
    }
    return MOTE_OK;
}

static mote_status run_for(jvm *vm, const jnode *n, jval iterable, jscope *outer, uint32_t depth0) {
    jloop *l;
    jscope *scope, *before = vm->scope;
    bool finished_one = false;
    TRY(jinja_alloc(vm, 1, sizeof *l, &l));
    TRY(loop_start(vm, n, iterable, outer, l));
    l->depth0 = depth0;
    TRY(jinja_push_scope(vm, outer, &scope));
    for (;; l->i++) {
        TRY(jinja_loop_pull(vm, l, l->i + 1));
        if (l->i >= l->n) break;
        TRY(jinja_spend(vm, 1));
        scope->n = 0;
        TRY(jinja_set_var(vm, n->name, (jval){.t = JT_LOOP, .loop = l}));
        TRY(jinja_assign(vm, n->a, l->v[l->i]));
        TRY(jinja_run(vm, &n->items));
        bool stop = vm->signal == RUN_BREAK;
        if (vm->signal == RUN_ON) finished_one = true;
        vm->signal = RUN_ON;
        if (stop) break;
    }
    vm->scope = outer;
    if (n->more.n && !finished_one) { /* as in Jinja2, an iteration that was cut short does not count */
        TRY(jinja_push_scope(vm, outer, NULL));
        TRY(jinja_run(vm, &n->more));
    }
    vm->scope = before;
    return MOTE_OK;
}

mote_status jinja_loop_again(jvm *vm, const jloop *l, jval iterable, jval *out) {
    jbuild b, *outer = vm->out;
    if (!(l->node->flags & NF_RECURSIVE))
        RAISE(vm, "The loop must have the 'recursive' marker to be called recursively.");
    if (++vm->call_depth > JINJA_CALL_DEPTH_MAX)
        return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "loops recurse deeper than %d levels", JINJA_CALL_DEPTH_MAX);
    jinja_build_init(&b, vm);
    b.max = outer->max;
    vm->out = &b;
    TRY(run_for(vm, l->node, iterable, l->scope, l->depth0 + 1));
    vm->out = outer;
    vm->call_depth--;
    return jinja_build_done(&b, out);
}

/* ---- macros ---- */

/* Takes the keyword `name` out of the arguments that are left; JT_MISSING when it is not there. */
static jval take_kwarg(const jargs *args, bool *taken, str name) {
    for (uint32_t i = 0; i < args->n_kw; i++)
        if (!taken[i] && str_eq(jview_of(args->kw[i].name), name)) {
            taken[i] = true;
            return args->kw[i].v;
        }
    return JMISSING;
}

/* Sets caller, kwargs and varargs, which a body may use without declaring them. */
static mote_status bind_extras(jvm *vm, const jnode *n, const jargs *args, bool *taken, const uint32_t ids[3]) {
    if ((n->flags & NF_CALLER) && !(n->flags & NF_EXPLICIT_CALLER)) {
        jval v = take_kwarg(args, taken, STR("caller"));
        if (!jgiven(v)) TRY(jinja_undef(vm, "No caller defined", &v));
        TRY(jinja_set_var(vm, ids[0], v));
    }
    if (n->flags & NF_KWARGS) {
        jval d;
        TRY(jinja_dict_new(vm, 0, &d));
        for (uint32_t i = 0; i < args->n_kw; i++)
            if (!taken[i]) TRY(jinja_dict_put(vm, d.d, jstring(args->kw[i].name), args->kw[i].v));
        TRY(jinja_set_var(vm, ids[1], d));
    } else
        for (uint32_t i = 0; i < args->n_kw; i++)
            if (!taken[i])
                RAISE(vm, "macro '%.*s' takes no keyword argument '%.*s'", STR_ARG(jview_of(n->text)),
                      STR_ARG(jview_of(args->kw[i].name)));
    uint32_t extra = args->n_pos > n->more.n ? args->n_pos - n->more.n : 0;
    if (n->flags & NF_VARARGS) {
        jval t;
        TRY(jinja_list_new(vm, extra, JT_TUPLE, &t));
        if (extra) memcpy(t.l->v, args->pos + n->more.n, extra * sizeof(jval));
        return jinja_set_var(vm, ids[2], t);
    }
    if (extra) RAISE(vm, "macro '%.*s' takes not more than %u argument(s)", STR_ARG(jview_of(n->text)), n->more.n);
    return MOTE_OK;
}

static mote_status bind_macro(jvm *vm, const jnode *n, const jargs *args) {
    bool *taken;
    TRY(jinja_alloc(vm, args->n_kw, sizeof *taken, &taken));
    for (uint32_t i = 0; i < n->more.n; i++) {
        const jnode *param = n->more.v[i];
        jval v = i < args->n_pos ? args->pos[i] : take_kwarg(args, taken, jview_of(param->text));
        if (jgiven(v)) TRY(jinja_set_var(vm, param->name, v));
    }
    TRY(bind_extras(vm, n, args, taken, vm->t->special));
    for (uint32_t i = args->n_pos; i < n->more.n; i++) { /* defaults may refer to parameters before them */
        const jnode *param = n->more.v[i];
        bool given = false;
        for (uint32_t k = 0; k < vm->scope->n; k++) given |= vm->scope->vars[k].name == param->name;
        if (given) continue;
        jval v;
        if (param->a) TRY(jinja_eval(vm, param->a, &v));
        else TRY(jinja_undef_name(vm, jview_of(param->text), &v));
        TRY(jinja_set_var(vm, param->name, v));
    }
    return MOTE_OK;
}

mote_status jinja_call_macro(jvm *vm, const jmacro *m, const jargs *args, jval *out) {
    jscope *outer = vm->scope;
    if (++vm->call_depth > JINJA_CALL_DEPTH_MAX)
        return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "macros call each other deeper than %d levels", JINJA_CALL_DEPTH_MAX);
    TRY(jinja_push_scope(vm, m->scope, NULL));
    TRY(bind_macro(vm, m->node, args));
    TRY(capture(vm, &m->node->items, out));
    vm->scope = outer;
    vm->call_depth--;
    return MOTE_OK;
}

static mote_status make_macro(jvm *vm, const jnode *n, const jmacro **out) {
    jmacro *m;
    TRY(jinja_alloc(vm, 1, sizeof *m, &m));
    m->node = n;
    m->scope = vm->scope;
    *out = m;
    return MOTE_OK;
}

/* ---- statements ---- */

static mote_status run_if(jvm *vm, const jnode *n) {
    for (uint32_t i = 0; i < n->items.n; i++) {
        jval test;
        TRY(jinja_eval(vm, n->items.v[i], &test));
        if (jinja_truth(test)) return jinja_run(vm, &n->more.v[i]->items);
    }
    return n->b ? jinja_run(vm, &n->b->items) : MOTE_OK;
}

/* Applies a filter chain whose innermost input is NULL to v. */
static mote_status apply_filters(jvm *vm, const jnode *f, jval v, jval *out) {
    jargs args;
    if (f->a) TRY(apply_filters(vm, f->a, v, &v));
    TRY(jinja_eval_args(vm, f, NULL, &args));
    if (!f->builtin) RAISE(vm, "No filter named '%.*s'.", STR_ARG(jview_of(f->text)));
    return jinja_call_builtin(vm, f->builtin, v, &args, out);
}

static mote_status run_set_block(jvm *vm, const jnode *n) {
    jval v;
    TRY(capture_scoped(vm, &n->items, &v));
    if (n->b) TRY(apply_filters(vm, n->b, v, &v));
    return jinja_assign(vm, n->a, v);
}

static mote_status run_filter_block(jvm *vm, const jnode *n) {
    jval v;
    TRY(capture_scoped(vm, &n->items, &v));
    TRY(apply_filters(vm, n->a, v, &v));
    return jinja_print(vm, vm->out, v);
}

static mote_status run_with(jvm *vm, const jnode *n) {
    jscope *outer = vm->scope, *inner;
    TRY(jinja_push_scope(vm, outer, &inner));
    for (uint32_t i = 0; i < n->more.n; i += 2) {
        jval v;
        vm->scope = outer;
        TRY(jinja_eval(vm, n->more.v[i + 1], &v));
        vm->scope = inner;
        TRY(jinja_assign(vm, n->more.v[i], v));
    }
    vm->scope = inner;
    TRY(jinja_run(vm, &n->items));
    vm->scope = outer;
    return MOTE_OK;
}

static mote_status run_call_block(jvm *vm, const jnode *n) {
    jval v;
    TRY(make_macro(vm, n, &vm->caller));
    TRY(jinja_eval(vm, n->a, &v));
    return jinja_print(vm, vm->out, v);
}

static mote_status run_print(jvm *vm, const jnode *n) {
    jval v;
    if (n->a) {
        TRY(jinja_eval(vm, n->a, &v));
        return jinja_print(vm, vm->out, v);
    }
    for (uint32_t i = 0; i < n->items.n; i++) {
        TRY(jinja_eval(vm, n->items.v[i], &v));
        TRY(jinja_print(vm, vm->out, v));
    }
    return MOTE_OK;
}

static mote_status run_statement(jvm *vm, const jnode *n) {
    jval v;
    switch ((jkind)n->kind) {
    case N_PRINT: return run_print(vm, n);
    case N_IF: return run_if(vm, n);
    case N_FOR:
        TRY(jinja_eval(vm, n->b, &v));
        return run_for(vm, n, v, vm->scope, 0);
    case N_SET:
        TRY(jinja_eval(vm, n->b, &v));
        return jinja_assign(vm, n->a, v);
    case N_SET_BLOCK: return run_set_block(vm, n);
    case N_WITH: return run_with(vm, n);
    case N_MACRO:
        v.t = JT_MACRO;
        TRY(make_macro(vm, n, &v.macro));
        return jinja_set_var(vm, n->name, v);
    case N_CALL_BLOCK: return run_call_block(vm, n);
    case N_FILTER_BLOCK: return run_filter_block(vm, n);
    case N_BLOCK: {
        jscope *outer = vm->scope;
        TRY(jinja_push_scope(vm, outer, NULL));
        TRY(jinja_run(vm, &n->items));
        vm->scope = outer;
        return MOTE_OK;
    }
    case N_BREAK: vm->signal = RUN_BREAK; return MOTE_OK;
    case N_CONTINUE: vm->signal = RUN_CONTINUE; return MOTE_OK;
    case N_DO: return jinja_eval(vm, n->a, &v);
    case N_REFUSED: RAISE(vm, "the tag '%.*s' is not part of chat templates", STR_ARG(jview_of(n->text)));
    default: RAISE(vm, "unknown statement");
    }
}

mote_status jinja_run(jvm *vm, const jnodes *body) {
    TRY(jinja_enter(vm));
    for (uint32_t i = 0; i < body->n && vm->signal == RUN_ON; i++) {
        const jnode *n = body->v[i];
        TRY(jinja_spend(vm, 1));
        vm->line = n->line;
        if (n->kind == N_DATA) jinja_build_str(vm->out, n->value.s);
        else TRY(run_statement(vm, n));
    }
    jinja_leave(vm);
    return MOTE_OK;
}

/* ---- a render ---- */

void chat_text_free(chat_text *t) {
    mem_free(t->p);
    mem_free(t->spans);
    *t = (chat_text){0};
}

/* What the variables take, in bytes, roughly; nesting is bounded by who made the JSON and by depth. */
static size_t weigh(json_t *j, int depth) {
    size_t w = 64;
    if (depth > JSON_DEPTH_MAX) return w;
    if (json_is_string(j)) w += json_string_length(j);
    for (size_t i = 0; i < json_array_size(j); i++) w += weigh(json_array_get(j, i), depth + 1);
    for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it))
        w += json_object_iter_key_len(it) + weigh(json_object_iter_value(it), depth + 1);
    return w;
}

static mote_status set_context(jvm *vm, json_t *vars, json_t *trusted) {
    for (uint32_t i = 0; i < vm->t->n_names; i++) {
        str name = vm->t->names[i];
        json_t *own = trusted ? json_object_getn(trusted, name.p, name.n) : NULL;
        json_t *var = vars ? json_object_getn(vars, name.p, name.n) : NULL;
        const jbuiltin *f = jinja_global(name);
        if (own) TRY(jinja_from_json(vm, own, false, &vm->context[i]));
        else if (var && str_is(name, "messages")) TRY(jinja_from_messages(vm, var, &vm->context[i]));
        else if (var) TRY(jinja_from_json(vm, var, true, &vm->context[i]));
        else if (f) vm->context[i] = (jval){.t = JT_FUNC, .func = f};
    }
    return MOTE_OK;
}

/* The builder's bytes and spans, copied to memory of the caller's. */
static mote_status hand_over(const jval v, chat_text *out, mote_error *err) {
    const jstr *s = v.s;
    size_t n_spans = s->n ? (size_t)s->n_cuts + 1 : 0;
    out->p = mem_strndup(s->p, s->n);
    out->spans = MEM_NEW_N(chat_span, n_spans);
    if (!out->p || !out->spans) {
        chat_text_free(out);
        FAIL(err, MOTE_E_MEMORY, "out of memory for a prompt of %u bytes", s->n);
    }
    out->n = s->n;
    out->n_spans = n_spans;
    for (size_t i = 0, from = 0; i < n_spans; i++) {
        size_t to = i < s->n_cuts ? s->cuts[i] : s->n;
        out->spans[i] = (chat_span){from, to - from, (i & 1) ? !s->content : s->content};
        from = to;
    }
    return MOTE_OK;
}

static struct tm local_now(void) {
    time_t t = time(NULL);
    struct tm now;
    if (!localtime_r(&t, &now)) now = (struct tm){.tm_mday = 1, .tm_year = 70};
    return now;
}

mote_status jinja_render(const jinja *t, json_t *variables, const jinja_opts *opts, chat_text *out, mote_error *err) {
    static const jinja_opts none = {0};
    const jinja_opts *o = opts ? opts : &none;
    size_t weight = variables ? weigh(variables, 0) : 0;
    jvm vm = {.t = t, .err = err};
    jbuild b;
    jval text;
    mote_status s;
    *out = (chat_text){0};
    arena_init(&vm.mem, (o->memory_bytes ? o->memory_bytes : JINJA_MEMORY_DEFAULT) + 24 * weight);
    vm.steps = (o->steps ? o->steps : JINJA_STEPS_DEFAULT) + (int64_t)weight;
    vm.now = o->now ? *o->now : local_now();
    jinja_build_init(&b, &vm);
    b.max = MIN(b.max, (o->output_bytes ? o->output_bytes : JINJA_OUTPUT_DEFAULT) + 4 * weight);
    vm.out = &b;
    TRYG(s, jinja_alloc(&vm, t->n_names, sizeof *vm.context, &vm.context));
    TRYG(s, jinja_alloc(&vm, t->n_names, sizeof *vm.root, &vm.root));
    TRYG(s, set_context(&vm, variables, o->trusted));
    TRYG(s, jinja_run(&vm, &t->body));
    TRYG(s, jinja_build_done(&b, &text));
    s = hand_over(text, out, err);
out:
    arena_free(&vm.mem);
    return s;
}
