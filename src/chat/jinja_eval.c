/* jinja_eval.c: expressions. */
#include "chat/jinja_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

mote_status jinja_raise(jvm *vm, mote_status code, const char *file, int line, const char *fmt, ...) {
    char msg[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return err_set(vm->err, code, file, line, "template line %u: %s", vm->line, msg);
}

mote_status jinja_no_memory(jvm *vm) {
    return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "the render needs more than %zu bytes of memory", vm->mem.max_bytes);
}

mote_status jinja_spend_slow(jvm *vm) {
    return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "the render took too many steps");
}

mote_status jinja_enter(jvm *vm) {
    if (++vm->depth > JINJA_EVAL_DEPTH_MAX)
        return jinja_raise(vm, MOTE_E_LIMIT, __FILE__, __LINE__, "nested deeper than %d levels", JINJA_EVAL_DEPTH_MAX);
    return MOTE_OK;
}

mote_status jinja_alloc(jvm *vm, size_t n, size_t size, void *out) {
    void *p = arena_alloc(&vm->mem, n ? n : 1, size);
    memcpy(out, &p, sizeof p);
    if (!p) return jinja_no_memory(vm);
    vm->steps -= (int64_t)(n * size / 128); /* clearing it takes time */
    return MOTE_OK;
}

mote_status jinja_raise_undef(jvm *vm, jval v) {
    const jundef *u = v.u;
    if (u->hint) RAISE(vm, "%s", u->hint);
    if (!u->of) RAISE(vm, "'%.*s' is undefined", STR_ARG(jview_of(u->name)));
    if (u->unsafe)
        RAISE(vm, "access to attribute '%.*s' of '%s' object is unsafe.", STR_ARG(jview_of(u->name)), u->of);
    RAISE(vm, "'%s' has no attribute '%.*s'", u->of, STR_ARG(jview_of(u->name)));
}

/* ---- names, attributes, items ---- */

static mote_status eval_name(jvm *vm, const jnode *n, jval *out) {
    for (const jscope *s = vm->scope; s; s = s->parent)
        for (uint32_t i = s->n; i-- > 0;) {
            if (s->vars[i].name != n->name) continue;
            *out = s->vars[i].v;
            return MOTE_OK;
        }
    *out = vm->root[n->name];
    if (!jgiven(*out)) *out = vm->context[n->name];
    return jgiven(*out) ? MOTE_OK : jinja_undef_name(vm, vm->t->names[n->name], out);
}

static mote_status bind_method(jvm *vm, jval obj, const jbuiltin *b, jval *out) {
    jmethod *m;
    TRY(jinja_alloc(vm, 1, sizeof *m, &m));
    TRY(jinja_alloc(vm, 1, sizeof *m->self, &m->self));
    m->self->v = obj;
    m->fn = b;
    *out = (jval){.t = JT_METHOD, .method = m};
    return MOTE_OK;
}

static mote_status loop_attr(jvm *vm, jloop *l, str name, jval *out) {
    int64_t i = l->i;
    bool all = str_is(name, "length") || str_is(name, "revindex") || str_is(name, "revindex0");
    if (all || str_is(name, "last") || str_is(name, "nextitem")) TRY(jinja_loop_pull(vm, l, all ? UINT32_MAX : l->i + 2));
    if (str_is(name, "index")) *out = jint(i + 1);
    else if (str_is(name, "index0")) *out = jint(i);
    else if (str_is(name, "revindex")) *out = jint(l->n - i);
    else if (str_is(name, "revindex0")) *out = jint(l->n - i - 1);
    else if (str_is(name, "first")) *out = jbool(i == 0);
    else if (str_is(name, "last")) *out = jbool(l->i + 1 >= l->n);
    else if (str_is(name, "length")) *out = jint(l->n);
    else if (str_is(name, "depth")) *out = jint((int64_t)l->depth0 + 1);
    else if (str_is(name, "depth0")) *out = jint(l->depth0);
    else if (str_is(name, "previtem")) {
        if (i == 0) return jinja_undef(vm, "there is no previous item", out);
        *out = l->v[i - 1];
    } else if (str_is(name, "nextitem")) {
        if (l->i + 1 >= l->n) return jinja_undef(vm, "there is no next item", out);
        *out = l->v[i + 1];
    }
    return MOTE_OK;
}

static mote_status macro_attr(jvm *vm, const jmacro *m, str name, jval *out) {
    const jnode *n = m->node;
    if (str_is(name, "name")) *out = jstring(n->text);
    else if (str_is(name, "catch_kwargs")) *out = jbool(n->flags & NF_KWARGS);
    else if (str_is(name, "catch_varargs")) *out = jbool(n->flags & NF_VARARGS);
    else if (str_is(name, "caller")) *out = jbool(n->flags & NF_CALLER);
    else if (str_is(name, "arguments")) {
        TRY(jinja_list_new(vm, n->more.n, JT_LIST, out));
        for (uint32_t i = 0; i < n->more.n; i++) out->l->v[i] = jstring(n->more.v[i]->text);
    }
    return MOTE_OK;
}

/* getattr(obj, name) as the sandbox allows it; JT_MISSING when there is no such attribute. */
static mote_status python_attr(jvm *vm, jval obj, const jstr *name, jval *out) {
    str s = jview_of(name);
    const jbuiltin *b = NULL;
    bool unsafe = false;
    *out = JMISSING;
    jinja_find_method(obj, s, &b, &unsafe);
    if (unsafe) return jinja_undef_attr(vm, obj, name, true, out);
    if (b) return bind_method(vm, obj, b, out);
    switch (obj.t) {
    case JT_NS: *out = jinja_dict_find(obj.d, s); break;
    case JT_LOOP: return loop_attr(vm, obj.loop, s, out);
    case JT_MACRO: return macro_attr(vm, obj.macro, s, out);
    case JT_TUPLE:
        if (obj.l->grouper && str_is(s, "grouper")) *out = obj.l->v[0];
        if (obj.l->grouper && str_is(s, "list")) *out = obj.l->v[1];
        break;
    case JT_CYCLER:
        if (str_is(s, "current")) *out = obj.cycler->items.v[obj.cycler->pos];
        break;
    case JT_JOINER:
        if (str_is(s, "used")) *out = jbool(obj.joiner->used);
        if (str_is(s, "sep")) *out = jstring(obj.joiner->sep);
        break;
    case JT_BOOL:
    case JT_INT:
        if (str_is(s, "real") || str_is(s, "numerator")) *out = jint(obj.t == JT_INT ? obj.i : obj.b);
        if (str_is(s, "imag")) *out = jint(0);
        if (str_is(s, "denominator")) *out = jint(1);
        break;
    case JT_FLOAT:
        if (str_is(s, "real")) *out = obj;
        if (str_is(s, "imag")) *out = jfloat(0);
        break;
    default: break;
    }
    return MOTE_OK;
}

static mote_status slice_value(jvm *vm, jval obj, const jlist *bounds, jval *out) {
    jrange r;
    int64_t len = jinja_length(obj);
    TRY(jinja_slice_bounds(vm, bounds->v[0], bounds->v[1], bounds->v[2], len, &r));
    TRY(jinja_spend(vm, (size_t)r.n / 8));
    if (obj.t == JT_RANGE) {
        jrange *c;
        TRY(jinja_alloc(vm, 1, sizeof *c, &c));
        const jrange *o = obj.range;
        c->n = r.n;
        if (__builtin_mul_overflow(o->step, r.start, &c->start) || __builtin_add_overflow(o->start, c->start, &c->start) ||
            __builtin_mul_overflow(o->step, r.stop, &c->stop) || __builtin_add_overflow(o->start, c->stop, &c->stop) ||
            __builtin_mul_overflow(o->step, r.step, &c->step))
            RAISE(vm, "range slice is too large");
        *out = (jval){.t = JT_RANGE, .range = c};
        return MOTE_OK;
    }
    if (obj.t != JT_STR) {
        TRY(jinja_list_new(vm, (uint32_t)r.n, obj.t, out));
        for (int64_t i = 0; i < r.n; i++) out->l->v[i] = obj.l->v[r.start + i * r.step];
        return MOTE_OK;
    }
    const jstr *s = obj.s;
    if (r.step == 1) {
        size_t from = jinja_str_offset(s, (size_t)r.start), to = jinja_str_offset(s, (size_t)(r.start + r.n));
        return jinja_str_sub(vm, s, from, to - from, out);
    }
    jbuild b;
    jinja_build_init(&b, vm);
    if (s->n != s->n_chars) TRY(jinja_spend(vm, (size_t)r.n * (s->n / 16)));
    for (int64_t i = 0; i < r.n; i++) {
        size_t at = jinja_str_offset(s, (size_t)(r.start + i * r.step));
        jinja_build_part(&b, s, at, jutf8_len((unsigned char)s->p[at]));
    }
    return jinja_build_done(&b, out);
}

/* obj[key] without attributes; JT_MISSING when Python would raise TypeError or LookupError. */
static mote_status python_item(jvm *vm, jval obj, jval key, jval *out) {
    bool found;
    *out = JMISSING;
    if (obj.t == JT_UNDEF) return jinja_raise_undef(vm, obj);
    if (obj.t == JT_DICT) {
        if (key.t == JT_LIST || key.t == JT_DICT || key.t == JT_MISSING) return MOTE_OK;
        return jinja_dict_get(vm, obj.d, key, out, &found);
    }
    if (obj.t != JT_STR && !jis_list(obj) && obj.t != JT_RANGE) return MOTE_OK;
    if (key.t != JT_INT && key.t != JT_BOOL) return MOTE_OK;
    int64_t i = key.t == JT_INT ? key.i : key.b, len = jinja_length(obj);
    if (i < 0) i += len;
    if (i < 0 || i >= len) return MOTE_OK;
    if (obj.t == JT_RANGE) *out = jint(obj.range->start + obj.range->step * i);
    else if (obj.t != JT_STR) *out = obj.l->v[i];
    else {
        size_t at = jinja_str_offset(obj.s, (size_t)i);
        TRY(jinja_spend(vm, obj.s->n == obj.s->n_chars ? 0 : at / 16));
        return jinja_str_sub(vm, obj.s, at, jutf8_len((unsigned char)obj.s->p[at]), out);
    }
    return MOTE_OK;
}

mote_status jinja_attr(jvm *vm, jval obj, const jstr *name, jval *out) {
    if (obj.t == JT_UNDEF) return jinja_raise_undef(vm, obj);
    TRY(python_attr(vm, obj, name, out));
    if (!jgiven(*out)) TRY(python_item(vm, obj, jstring(name), out));
    return jgiven(*out) ? MOTE_OK : jinja_undef_attr(vm, obj, name, false, out);
}

mote_status jinja_item(jvm *vm, jval obj, jval key, jval *out) {
    TRY(python_item(vm, obj, key, out));
    if (jgiven(*out)) return MOTE_OK;
    if (key.t == JT_STR) {
        TRY(python_attr(vm, obj, key.s, out));
        return jgiven(*out) ? MOTE_OK : jinja_undef_attr(vm, obj, key.s, false, out);
    }
    const jstr *name;
    TRY(jinja_str_of(vm, key, &name));
    return jinja_undef_attr(vm, obj, name, false, out);
}

static mote_status eval_slice(jvm *vm, jval obj, const jnode *s, jval *out) {
    jval bounds;
    const jnode *parts[3] = {s->a, s->b, s->c};
    TRY(jinja_list_new(vm, 3, JT_LIST, &bounds));
    for (int i = 0; i < 3; i++) {
        if (parts[i]) TRY(jinja_eval(vm, parts[i], &bounds.l->v[i]));
        else bounds.l->v[i] = JNONE;
    }
    if (obj.t == JT_UNDEF) return jinja_raise_undef(vm, obj);
    if (obj.t == JT_STR || jis_list(obj) || obj.t == JT_RANGE) return slice_value(vm, obj, bounds.l, out);
    RAISE(vm, "'%s' object is not subscriptable", jinja_type_name(obj));
}

/* ---- operators ---- */

static bool is_number(jval v) { return v.t == JT_INT || v.t == JT_FLOAT || v.t == JT_BOOL; }
static double to_double(jval v) { return v.t == JT_FLOAT ? v.f : v.t == JT_INT ? (double)v.i : (double)v.b; }

static mote_status overflow(jvm *vm) { RAISE(vm, "integer result does not fit in 64 bits"); }

static int64_t floor_div(int64_t a, int64_t b) {
    int64_t q = a / b;
    return (a % b != 0 && (a < 0) != (b < 0)) ? q - 1 : q;
}

static mote_status int_pow(jvm *vm, int64_t a, int64_t b, jval *out) {
    if (b < 0) {
        if (a == 0) RAISE(vm, "0.0 cannot be raised to a negative power");
        *out = jfloat(pow((double)a, (double)b));
        return MOTE_OK;
    }
    int64_t r = 1;
    while (b > 0) {
        if ((b & 1) && __builtin_mul_overflow(r, a, &r)) return overflow(vm);
        b >>= 1;
        if (b && __builtin_mul_overflow(a, a, &a)) return overflow(vm);
    }
    *out = jint(r);
    return MOTE_OK;
}

static mote_status int_op(jvm *vm, jop op, int64_t a, int64_t b, jval *out) {
    int64_t r = 0;
    bool over = false;
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0)
        RAISE(vm, op == OP_DIV ? "division by zero" : "integer division or modulo by zero");
    switch (op) {
    case OP_ADD: over = __builtin_add_overflow(a, b, &r); break;
    case OP_SUB: over = __builtin_sub_overflow(a, b, &r); break;
    case OP_MUL: over = __builtin_mul_overflow(a, b, &r); break;
    case OP_DIV: *out = jfloat((double)a / (double)b); return MOTE_OK;
    case OP_POW: return int_pow(vm, a, b, out);
    default:
        if (a == INT64_MIN && b == -1) over = op == OP_FLOORDIV;
        else r = op == OP_FLOORDIV ? floor_div(a, b) : a - floor_div(a, b) * b;
    }
    if (over) return overflow(vm);
    *out = jint(r);
    return MOTE_OK;
}

static mote_status float_op(jvm *vm, jop op, double a, double b, jval *out) {
    if ((op == OP_DIV || op == OP_FLOORDIV || op == OP_MOD) && b == 0) RAISE(vm, "float division by zero");
    double m = op == OP_FLOORDIV || op == OP_MOD ? fmod(a, b) : 0;
    double q = m != 0 ? (a - m) / b : a / b;
    if (m != 0 && (m < 0) != (b < 0)) {
        m += b;
        q -= 1;
    }
    switch (op) {
    case OP_ADD: *out = jfloat(a + b); break;
    case OP_SUB: *out = jfloat(a - b); break;
    case OP_MUL: *out = jfloat(a * b); break;
    case OP_DIV: *out = jfloat(a / b); break;
    case OP_FLOORDIV: *out = jfloat(isfinite(q) && floor(q) + 0.5 < q ? floor(q) + 1 : floor(q)); break;
    case OP_MOD: *out = jfloat(m == 0 ? copysign(0, b) : m); break;
    default:
        if (a == 0 && b < 0) RAISE(vm, "0.0 cannot be raised to a negative power");
        if (a < 0 && floor(b) != b) RAISE(vm, "complex numbers are not supported");
        *out = jfloat(pow(a, b));
        if (isinf(out->f) && isfinite(a) && isfinite(b)) RAISE(vm, "Numerical result out of range");
    }
    return MOTE_OK;
}

static mote_status repeat(jvm *vm, jval seq, int64_t times, jval *out) {
    if (seq.t == JT_STR) {
        jbuild b;
        jinja_build_init(&b, vm);
        jinja_build_repeat(&b, seq.s, times);
        TRY(jinja_build_done(&b, out));
        return seq.s->markup ? jinja_as_markup(vm, *out, out) : MOTE_OK;
    }
    uint32_t n = seq.l->n;
    if (times < 0) times = 0;
    if (n && (uint64_t)times > UINT32_MAX / n) return jinja_no_memory(vm);
    TRY(jinja_list_new(vm, n * (uint32_t)times, seq.t, out));
    for (int64_t i = 0; i < times && n; i++) memcpy(out->l->v + i * n, seq.l->v, n * sizeof(jval));
    return MOTE_OK;
}

static mote_status percent(jvm *vm, jval fmt, jval arg, jval *out) {
    jargs args = {.pos = &arg, .n_pos = 1};
    if (arg.t == JT_TUPLE) args = (jargs){.pos = arg.l->v, .n_pos = arg.l->n};
    return jinja_format_percent(vm, fmt.s, &args, arg.t == JT_TUPLE, out);
}

mote_status jinja_binary(jvm *vm, jop op, jval a, jval b, jval *out) {
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    if (is_number(a) && is_number(b)) {
        if (a.t == JT_FLOAT || b.t == JT_FLOAT) return float_op(vm, op, to_double(a), to_double(b), out);
        return int_op(vm, op, a.t == JT_INT ? a.i : a.b, b.t == JT_INT ? b.i : b.b, out);
    }
    if (op == OP_MOD && a.t == JT_STR) return percent(vm, a, b, out);
    if (a.t == JT_UNDEF || b.t == JT_UNDEF) return jinja_raise_undef(vm, a.t == JT_UNDEF ? a : b);
    if (op == OP_ADD && a.t == JT_STR && b.t == JT_STR) return jinja_concat(vm, a.s, b.s, out);
    if (op == OP_ADD && jis_list(a) && a.t == b.t) {
        TRY(jinja_list_new(vm, a.l->n + b.l->n, a.t, out));
        if (a.l->n) memcpy(out->l->v, a.l->v, a.l->n * sizeof(jval));
        if (b.l->n) memcpy(out->l->v + a.l->n, b.l->v, b.l->n * sizeof(jval));
        return MOTE_OK;
    }
    bool a_seq = a.t == JT_STR || jis_list(a), b_seq = b.t == JT_STR || jis_list(b);
    if (op == OP_MUL && a_seq && (b.t == JT_INT || b.t == JT_BOOL)) return repeat(vm, a, b.t == JT_INT ? b.i : b.b, out);
    if (op == OP_MUL && b_seq && (a.t == JT_INT || a.t == JT_BOOL)) return repeat(vm, b, a.t == JT_INT ? a.i : a.b, out);
    if (op == OP_ADD && a.t == JT_STR)
        RAISE(vm, "can only concatenate str (not \"%s\") to str", jinja_type_name(b));
    RAISE(vm, "unsupported operand type(s) for %s: '%s' and '%s'", names[op], jinja_type_name(a), jinja_type_name(b));
}

mote_status jinja_compare_op(jvm *vm, jop op, jval a, jval b, bool *out) {
    static const char *const names[] = {[OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    int c;
    switch (op) {
    case OP_EQ: return jinja_equal(vm, a, b, out);
    case OP_NE:
        TRY(jinja_equal(vm, a, b, out));
        *out = !*out;
        return MOTE_OK;
    case OP_IN:
    case OP_NOT_IN:
        TRY(jinja_contains(vm, b, a, out));
        *out = *out == (op == OP_IN);
        return MOTE_OK;
    default: break;
    }
    TRY(jinja_order(vm, a, b, names[op], &c));
    *out = op == OP_LT ? c == -1 : op == OP_LE ? c == -1 || c == 0 : op == OP_GT ? c == 1 : c == 1 || c == 0;
    return MOTE_OK;
}

static mote_status eval_compare(jvm *vm, const jnode *n, jval *out) {
    jval left, right;
    bool yes = true;
    TRY(jinja_eval(vm, n->a, &left));
    for (uint32_t i = 0; i < n->items.n && yes; i++) {
        TRY(jinja_eval(vm, n->items.v[i]->a, &right));
        TRY(jinja_compare_op(vm, (jop)n->items.v[i]->op, left, right, &yes));
        left = right;
    }
    *out = jbool(yes);
    return MOTE_OK;
}

static mote_status eval_unary(jvm *vm, const jnode *n, jval *out) {
    jval v;
    TRY(jinja_eval(vm, n->a, &v));
    if (n->kind == N_NOT) {
        *out = jbool(!jinja_truth(v));
        return MOTE_OK;
    }
    if (v.t == JT_UNDEF) return jinja_raise_undef(vm, v);
    if (!is_number(v)) RAISE(vm, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+', jinja_type_name(v));
    if (v.t == JT_FLOAT) *out = jfloat(n->kind == N_NEG ? -v.f : v.f);
    else if (n->kind == N_NEG) return int_op(vm, OP_SUB, 0, v.t == JT_INT ? v.i : v.b, out);
    else *out = jint(v.t == JT_INT ? v.i : v.b);
    return MOTE_OK;
}

/* a ~ b ~ …: long first parts grow in place, see jinja_concat. */
static mote_status eval_concat(jvm *vm, const jnode *n, jval *out) {
    jval v, rest;
    const jstr *first, *s;
    jbuild b;
    TRY(jinja_eval(vm, n->items.v[0], &v));
    TRY(jinja_str_of(vm, v, &first));
    jinja_build_init(&b, vm);
    for (uint32_t i = 1; i < n->items.n; i++) {
        TRY(jinja_eval(vm, n->items.v[i], &v));
        TRY(jinja_str_of(vm, v, &s));
        jinja_build_str(&b, s);
    }
    TRY(jinja_build_done(&b, &rest));
    if (first->markup) { /* ~ joins plain text and markup as they are */
        jstr *plain;
        TRY(jinja_alloc(vm, 1, sizeof *plain, &plain));
        *plain = *first;
        plain->markup = false;
        first = plain;
    }
    return jinja_concat(vm, first, rest.s, out);
}

/* ---- displays, calls ---- */

static mote_status eval_list(jvm *vm, const jnode *n, jval *out) {
    TRY(jinja_list_new(vm, n->items.n, n->kind == N_LIST ? JT_LIST : JT_TUPLE, out));
    jlist *l = out->l;
    for (uint32_t i = 0; i < n->items.n; i++) TRY(jinja_eval(vm, n->items.v[i], &l->v[i]));
    return MOTE_OK;
}

static mote_status eval_dict(jvm *vm, const jnode *n, jval *out) {
    jval key, val, d;
    TRY(jinja_dict_new(vm, n->items.n / 2, &d));
    for (uint32_t i = 0; i < n->items.n; i += 2) {
        TRY(jinja_eval(vm, n->items.v[i], &key));
        TRY(jinja_eval(vm, n->items.v[i + 1], &val));
        TRY(jinja_dict_put(vm, d.d, key, val));
    }
    *out = d;
    return MOTE_OK;
}

/* Appends what *args and **kwargs hold to the arrays, which have room for n more. */
static mote_status spread(jvm *vm, const jnode *n, jval **pos, uint32_t *n_pos, jkwarg **kw, uint32_t *n_kw) {
    if (n->b) {
        jval v, *items, *all;
        uint32_t k;
        TRY(jinja_eval(vm, n->b, &v));
        TRY(jinja_items(vm, v, &items, &k));
        TRY(jinja_alloc(vm, (size_t)*n_pos + k, sizeof *all, &all));
        if (*n_pos) memcpy(all, *pos, *n_pos * sizeof *all);
        if (k) memcpy(all + *n_pos, items, k * sizeof *all);
        *pos = all;
        *n_pos += k;
    }
    if (n->c) {
        jval v;
        jkwarg *all;
        TRY(jinja_eval(vm, n->c, &v));
        if (v.t != JT_DICT) RAISE(vm, "argument after ** must be a mapping, not %s", jinja_type_name(v));
        TRY(jinja_alloc(vm, (size_t)*n_kw + v.d->n, sizeof *all, &all));
        if (*n_kw) memcpy(all, *kw, *n_kw * sizeof *all);
        for (uint32_t i = 0; i < v.d->n; i++) {
            if (v.d->e[i].key.t != JT_STR) RAISE(vm, "keywords must be strings");
            all[(*n_kw)++] = (jkwarg){v.d->e[i].key.s, v.d->e[i].val};
        }
        *kw = all;
    }
    return MOTE_OK;
}

mote_status jinja_eval_args(jvm *vm, const jnode *n, const jval *first, jargs *out) {
    uint32_t n_pos = n->items.n, n_kw = n->more.n, extra = first != NULL;
    jval *pos = NULL;
    jkwarg *kw = NULL;
    if (n_pos + extra) TRY(jinja_alloc(vm, n_pos + extra, sizeof *pos, &pos));
    if (n_kw) TRY(jinja_alloc(vm, n_kw, sizeof *kw, &kw));
    if (first) pos[0] = *first;
    for (uint32_t i = 0; i < n_pos; i++) TRY(jinja_eval(vm, n->items.v[i], &pos[i + extra]));
    for (uint32_t i = 0; i < n_kw; i++) {
        kw[i].name = n->more.v[i]->text;
        TRY(jinja_eval(vm, n->more.v[i]->a, &kw[i].v));
    }
    n_pos += extra;
    if (n->flags & NF_SPREAD) TRY(spread(vm, n, &pos, &n_pos, &kw, &n_kw));
    *out = (jargs){pos, n_pos, kw, n_kw};
    return MOTE_OK;
}

static mote_status eval_call(jvm *vm, const jnode *n, jval *out) {
    jval callee;
    jargs args;
    const jmacro *caller = vm->caller; /* belongs to this call alone, not to those in its arguments */
    vm->caller = NULL;
    TRY(jinja_eval(vm, n->a, &callee));
    TRY(jinja_eval_args(vm, n, NULL, &args));
    if (caller) {
        jkwarg *kw;
        TRY(jinja_alloc(vm, (size_t)args.n_kw + 1, sizeof *kw, &kw));
        if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
        kw[args.n_kw++] = (jkwarg){caller->node->text, {.t = JT_MACRO, .macro = caller}};
        args.kw = kw;
    }
    vm->line = n->line;
    return jinja_call(vm, callee, &args, out);
}

static mote_status eval_filter(jvm *vm, const jnode *n, jval *out) {
    jval self;
    jargs args;
    TRY(jinja_eval(vm, n->a, &self));
    TRY(jinja_eval_args(vm, n, NULL, &args));
    vm->line = n->line;
    if (!n->builtin) RAISE(vm, "No %s named '%.*s'.", n->kind == N_FILTER ? "filter" : "test", STR_ARG(jview_of(n->text)));
    return jinja_call_builtin(vm, n->builtin, self, &args, out);
}

static mote_status eval_cond(jvm *vm, const jnode *n, jval *out) {
    jval test;
    TRY(jinja_eval(vm, n->a, &test));
    if (jinja_truth(test)) return jinja_eval(vm, n->b, out);
    if (n->c) return jinja_eval(vm, n->c, out);
    return jinja_undef(vm, "the inline if-expression evaluated to false and no else section was defined.", out);
}

static mote_status eval_logic(jvm *vm, const jnode *n, jval *out) {
    TRY(jinja_eval(vm, n->a, out));
    if (jinja_truth(*out) == (n->kind == N_OR)) return MOTE_OK;
    return jinja_eval(vm, n->b, out);
}

static mote_status eval_binary(jvm *vm, const jnode *n, jval *out) {
    jval a, b;
    TRY(jinja_eval(vm, n->a, &a));
    TRY(jinja_eval(vm, n->b, &b));
    vm->line = n->line;
    return jinja_binary(vm, (jop)n->op, a, b, out);
}

static mote_status eval_lookup(jvm *vm, const jnode *n, jval *out) {
    jval obj, key;
    TRY(jinja_eval(vm, n->a, &obj));
    vm->line = n->line;
    if (n->kind == N_ATTR) return jinja_attr(vm, obj, n->text, out);
    if (n->b->kind == N_SLICE) return eval_slice(vm, obj, n->b, out);
    TRY(jinja_eval(vm, n->b, &key));
    return jinja_item(vm, obj, key, out);
}

static mote_status eval_node(jvm *vm, const jnode *n, jval *out) {
    switch ((jkind)n->kind) {
    case N_LIST:
    case N_TUPLE: return eval_list(vm, n, out);
    case N_DICT: return eval_dict(vm, n, out);
    case N_ATTR:
    case N_ITEM: return eval_lookup(vm, n, out);
    case N_CALL: return eval_call(vm, n, out);
    case N_FILTER:
    case N_TEST: return eval_filter(vm, n, out);
    case N_COND: return eval_cond(vm, n, out);
    case N_OR:
    case N_AND: return eval_logic(vm, n, out);
    case N_NOT:
    case N_NEG:
    case N_POS: return eval_unary(vm, n, out);
    case N_BINARY: return eval_binary(vm, n, out);
    case N_COMPARE: return eval_compare(vm, n, out);
    case N_CONCAT: return eval_concat(vm, n, out);
    default: RAISE(vm, "this expression has no value");
    }
}

mote_status jinja_eval(jvm *vm, const jnode *n, jval *out) {
    TRY(jinja_spend(vm, 1));
    vm->line = n->line;
    if (n->kind == N_CONST) {
        *out = n->value;
        return MOTE_OK;
    }
    if (n->kind == N_NAME) return eval_name(vm, n, out);
    TRY(jinja_enter(vm));
    TRY(eval_node(vm, n, out));
    jinja_leave(vm);
    return MOTE_OK;
}
