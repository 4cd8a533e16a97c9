/* jinja_expr.c: the expression half of the parser, one function per level of precedence, loosest first:
 * condition, or, and, not, comparison, + -, ~, * / // %, **, unary, postfix and filters, primary. */
#include "chat/jinja_int.h"

static mote_status parse_or(jparser *p, jnode **out);
static mote_status parse_unary(jparser *p, bool with_filter, jnode **out);
static mote_status parse_primary(jparser *p, int flags, jnode **out);

static mote_status binary_node(jparser *p, jkind kind, int op, uint32_t line, jnode *a, jnode *b, jnode **out) {
    TRY(jinja_node(p, kind, line, out));
    jnode *n = *out;
    n->op = (uint8_t)op;
    n->a = a;
    n->b = b;
    TRY(jinja_adopt(p, n, a));
    return jinja_adopt(p, n, b);
}

/* Bounds the recursion of this file; every cycle among its functions passes here or through unary. */
static mote_status enter(jparser *p) {
    if (++p->expr_depth > JINJA_EXPR_DEPTH_MAX)
        FAIL(p->err, MOTE_E_LIMIT, "template line %u: expression nested deeper than %d", p->tok->line, JINJA_EXPR_DEPTH_MAX);
    return MOTE_OK;
}

/* Outside of branches an unknown filter or test is an error at once, as in Jinja2. */
static mote_status check_unknown(jparser *p) {
    if (p->soft || !p->unknown) return MOTE_OK;
    p->tok = p->unknown;
    PARSE_FAIL(p, "No filter or test named '%.*s'.", STR_ARG(p->tok->text));
}

static mote_status parse_cond(jparser *p, jnode **out) {
    uint32_t line = p->tok->line;
    p->soft++; /* what stands beside a condition may never run */
    TRY(parse_or(p, out));
    bool cond = jtok_is_name(p->tok, "if");
    while (jinja_skip_name(p, "if")) {
        jnode *n;
        TRY(jinja_node(p, N_COND, line, &n));
        n->b = *out;
        TRY(parse_or(p, &n->a));
        if (jinja_skip_name(p, "else")) TRY(jinja_parse_expr(p, true, &n->c));
        TRY(jinja_adopt(p, n, n->a));
        TRY(jinja_adopt(p, n, n->b));
        TRY(jinja_adopt(p, n, n->c));
        *out = n;
        line = p->tok->line;
    }
    if (--p->soft == 0 && cond) p->unknown = NULL;
    return MOTE_OK;
}

mote_status jinja_parse_expr(jparser *p, bool with_cond, jnode **out) {
    TRY(enter(p));
    TRY(with_cond ? parse_cond(p, out) : parse_or(p, out));
    p->expr_depth--;
    return check_unknown(p);
}

static mote_status parse_pow(jparser *p, jnode **out) {
    TRY(parse_unary(p, true, out));
    while (p->tok->type == T_POW) {
        uint32_t line = p->tok++->line;
        jnode *right;
        TRY(parse_unary(p, true, &right));
        TRY(binary_node(p, N_BINARY, OP_POW, line, *out, right, out));
    }
    return MOTE_OK;
}

static mote_status parse_product(jparser *p, jnode **out) {
    TRY(parse_pow(p, out));
    for (;;) {
        jtok_type t = p->tok->type;
        if (t != T_MUL && t != T_DIV && t != T_FLOORDIV && t != T_MOD) return MOTE_OK;
        int op = t == T_MUL ? OP_MUL : t == T_DIV ? OP_DIV : t == T_FLOORDIV ? OP_FLOORDIV : OP_MOD;
        uint32_t line = p->tok++->line;
        jnode *right;
        TRY(parse_pow(p, &right));
        TRY(binary_node(p, N_BINARY, op, line, *out, right, out));
    }
}

static mote_status parse_concat(jparser *p, jnode **out) {
    uint32_t line = p->tok->line;
    TRY(parse_product(p, out));
    if (p->tok->type != T_TILDE) return MOTE_OK;
    jnode_vec parts = {0};
    jnode *n, *part = *out;
    mote_status s;
    TRY(jinja_node(p, N_CONCAT, line, &n));
    TRYG(s, jinja_vec_put(p, &parts, part));
    TRYG(s, jinja_adopt(p, n, part));
    while (p->tok->type == T_TILDE) {
        p->tok++;
        TRYG(s, parse_product(p, &part));
        TRYG(s, jinja_vec_put(p, &parts, part));
        TRYG(s, jinja_adopt(p, n, part));
    }
    TRYG(s, jinja_vec_done(p, &parts, &n->items));
    *out = n;
out:
    mem_free(parts.v);
    return s;
}

static mote_status parse_sum(jparser *p, jnode **out) {
    TRY(parse_concat(p, out));
    while (p->tok->type == T_ADD || p->tok->type == T_SUB) {
        int op = p->tok->type == T_ADD ? OP_ADD : OP_SUB;
        uint32_t line = p->tok++->line;
        jnode *right;
        TRY(parse_concat(p, &right));
        TRY(binary_node(p, N_BINARY, op, line, *out, right, out));
    }
    return MOTE_OK;
}

/* The comparison operator at the current token, consumed; -1 when there is none. */
static int comparison(jparser *p) {
    static const struct {
        jtok_type type;
        int op;
    } ops[] = {{T_EQ, OP_EQ}, {T_NE, OP_NE}, {T_LT, OP_LT}, {T_LE, OP_LE}, {T_GT, OP_GT}, {T_GE, OP_GE}};
    for (size_t i = 0; i < COUNT_OF(ops); i++)
        if (p->tok->type == ops[i].type) {
            p->tok++;
            return ops[i].op;
        }
    if (jinja_skip_name(p, "in")) return OP_IN;
    if (jtok_is_name(p->tok, "not") && jtok_is_name(p->tok + 1, "in")) {
        p->tok += 2;
        return OP_NOT_IN;
    }
    return -1;
}

static mote_status parse_compare(jparser *p, jnode **out) {
    uint32_t line = p->tok->line;
    TRY(parse_sum(p, out));
    int op = comparison(p);
    if (op < 0) return MOTE_OK;
    jnode_vec rights = {0};
    jnode *n, *right;
    mote_status s;
    TRY(jinja_node(p, N_COMPARE, line, &n));
    n->a = *out;
    TRYG(s, jinja_adopt(p, n, n->a));
    for (; op >= 0; op = comparison(p)) {
        jnode *link; /* carries the operator beside its right side */
        TRYG(s, parse_sum(p, &right));
        TRYG(s, jinja_node(p, N_COMPARE, line, &link));
        link->op = (uint8_t)op;
        link->a = right;
        TRYG(s, jinja_adopt(p, n, right));
        TRYG(s, jinja_vec_put(p, &rights, link));
    }
    TRYG(s, jinja_vec_done(p, &rights, &n->items));
    *out = n;
out:
    mem_free(rights.v);
    return s;
}

static mote_status parse_not(jparser *p, jnode **out) {
    if (!jtok_is_name(p->tok, "not")) return parse_compare(p, out);
    uint32_t line = p->tok++->line;
    jnode *inner;
    TRY(enter(p));
    TRY(parse_not(p, &inner));
    p->expr_depth--;
    return binary_node(p, N_NOT, 0, line, inner, NULL, out);
}

static mote_status parse_and(jparser *p, jnode **out) {
    TRY(parse_not(p, out));
    while (jtok_is_name(p->tok, "and")) {
        uint32_t line = p->tok++->line;
        jnode *right;
        TRY(parse_not(p, &right));
        TRY(binary_node(p, N_AND, 0, line, *out, right, out));
    }
    return MOTE_OK;
}

static mote_status parse_or(jparser *p, jnode **out) {
    TRY(parse_and(p, out));
    while (jtok_is_name(p->tok, "or")) {
        uint32_t line = p->tok++->line;
        jnode *right;
        TRY(parse_and(p, &right));
        TRY(binary_node(p, N_OR, 0, line, *out, right, out));
    }
    return MOTE_OK;
}

/* One argument of a call, appended to pos or kw, or put in n->b (*args) or n->c (**kwargs). */
static mote_status parse_arg(jparser *p, jnode *n, jnode_vec *pos, jnode_vec *kw) {
    jnode **slot, *value;
    if (p->tok->type == T_MUL || p->tok->type == T_POW) {
        bool kwargs = p->tok->type == T_POW;
        if (n->c || (!kwargs && n->b)) PARSE_FAIL(p, "invalid syntax for function call expression");
        p->tok++;
        slot = kwargs ? &n->c : &n->b;
        n->flags |= NF_SPREAD;
        TRY(jinja_parse_expr(p, true, slot));
        return jinja_adopt(p, n, *slot);
    }
    if (n->c) PARSE_FAIL(p, "invalid syntax for function call expression");
    if (p->tok->type == T_NAME && p->tok[1].type == T_ASSIGN) {
        jnode *k;
        TRY(jinja_node(p, N_KEYWORD, p->tok->line, &k));
        TRY(jinja_text(p, p->tok->text, &k->text));
        p->tok += 2;
        TRY(jinja_parse_expr(p, true, &k->a));
        TRY(jinja_adopt(p, n, k->a));
        return jinja_vec_put(p, kw, k);
    }
    if (n->b || kw->n) PARSE_FAIL(p, "invalid syntax for function call expression");
    TRY(jinja_parse_expr(p, true, &value));
    TRY(jinja_adopt(p, n, value));
    return jinja_vec_put(p, pos, value);
}

/* "(…)" into n: positional items, keywords in more, spreads in b and c. */
static mote_status parse_args(jparser *p, jnode *n) {
    jnode_vec pos = {0}, kw = {0};
    mote_status s;
    TRY(jinja_expect(p, T_LPAREN));
    while (p->tok->type != T_RPAREN) {
        if (pos.n || kw.n || n->b || n->c) {
            TRYG(s, jinja_expect(p, T_COMMA));
            if (p->tok->type == T_RPAREN) break;
        }
        TRYG(s, parse_arg(p, n, &pos, &kw));
    }
    TRYG(s, jinja_expect(p, T_RPAREN));
    TRYG(s, jinja_vec_done(p, &pos, &n->items));
    TRYG(s, jinja_vec_done(p, &kw, &n->more));
out:
    mem_free(pos.v);
    mem_free(kw.v);
    return s;
}

static mote_status parse_call(jparser *p, jnode *callee, jnode **out) {
    jnode *n;
    TRY(jinja_node(p, N_CALL, p->tok->line, &n));
    n->a = callee;
    TRY(jinja_adopt(p, n, callee));
    TRY(parse_args(p, n));
    *out = n;
    return MOTE_OK;
}

/* A filter's or test's name, with dots. */
static mote_status builtin_name(jparser *p, jnode *n, bool filter) {
    if (p->tok->type != T_NAME) PARSE_FAIL(p, "expected a %s's name, got %s", filter ? "filter" : "test", jinja_tok_name(p->tok->type));
    str name = p->tok++->text;
    while (p->tok->type == T_DOT && p->tok[1].type == T_NAME) { /* no builtin's name has a dot */
        name = (str){"(dotted)", 8};
        p->tok += 2;
    }
    TRY(jinja_text(p, name, &n->text));
    n->builtin = filter ? jinja_filter(name) : jinja_test(name);
    if (!n->builtin && !p->unknown) p->unknown = p->tok - 1;
    return MOTE_OK;
}

mote_status jinja_parse_filters(jparser *p, jnode *value, bool first, jnode **out) {
    *out = value;
    while (p->tok->type == T_PIPE || first) {
        if (!first) p->tok++;
        first = false;
        jnode *n;
        TRY(jinja_node(p, N_FILTER, p->tok->line, &n));
        n->a = *out;
        TRY(jinja_adopt(p, n, n->a));
        TRY(builtin_name(p, n, true));
        if (p->tok->type == T_LPAREN) TRY(parse_args(p, n));
        *out = n;
    }
    return check_unknown(p);
}

static mote_status parse_subscript(jparser *p, jnode *obj, jnode **out);

static mote_status parse_postfix(jparser *p, jnode **out) {
    for (;;) {
        if (p->tok->type == T_DOT || p->tok->type == T_LBRACKET) TRY(parse_subscript(p, *out, out));
        else if (p->tok->type == T_LPAREN) TRY(parse_call(p, *out, out));
        else return MOTE_OK;
    }
}

/* "is [not] name [arguments]" after value. */
static mote_status parse_test(jparser *p, jnode *value, jnode **out) {
    uint32_t line = p->tok++->line;
    bool negated = jinja_skip_name(p, "not");
    jnode *n;
    TRY(jinja_node(p, N_TEST, line, &n));
    n->a = value;
    TRY(jinja_adopt(p, n, value));
    TRY(builtin_name(p, n, false));
    jtok_type t = p->tok->type;
    if (t == T_LPAREN) TRY(parse_args(p, n));
    else if ((t == T_NAME || t == T_STRING || t == T_INT || t == T_FLOAT || t == T_LBRACKET || t == T_LBRACE) &&
             !jtok_is_name(p->tok, "else") && !jtok_is_name(p->tok, "or") && !jtok_is_name(p->tok, "and")) {
        if (jtok_is_name(p->tok, "is")) PARSE_FAIL(p, "You cannot chain multiple tests with is");
        jnode_vec one = {0};
        jnode *arg;
        TRY(parse_primary(p, 0, &arg));
        TRY(parse_postfix(p, &arg));
        TRY(jinja_adopt(p, n, arg));
        mote_status s = jinja_vec_put(p, &one, arg);
        if (s == MOTE_OK) s = jinja_vec_done(p, &one, &n->items);
        mem_free(one.v);
        TRY(s);
    }
    *out = n;
    return negated ? binary_node(p, N_NOT, 0, line, n, NULL, out) : MOTE_OK;
}

static mote_status parse_unary(jparser *p, bool with_filter, jnode **out) {
    uint32_t line = p->tok->line;
    if (p->tok->type == T_SUB || p->tok->type == T_ADD) {
        jkind kind = p->tok++->type == T_SUB ? N_NEG : N_POS;
        jnode *inner;
        TRY(enter(p));
        TRY(parse_unary(p, false, &inner));
        p->expr_depth--;
        TRY(binary_node(p, kind, 0, line, inner, NULL, out));
    } else TRY(parse_primary(p, 0, out));
    TRY(parse_postfix(p, out));
    while (with_filter) {
        if (p->tok->type == T_PIPE) TRY(jinja_parse_filters(p, *out, false, out));
        else if (jtok_is_name(p->tok, "is")) TRY(parse_test(p, *out, out));
        else if (p->tok->type == T_LPAREN) TRY(parse_call(p, *out, out));
        else break;
    }
    return MOTE_OK;
}

/* Inside [ ]: an expression or a slice. */
static mote_status parse_subscribed(jparser *p, jnode **out) {
    uint32_t line = p->tok->line;
    jnode *start = NULL, *n;
    if (p->tok->type != T_COLON) {
        TRY(jinja_parse_expr(p, true, &start));
        if (p->tok->type != T_COLON) {
            *out = start;
            return MOTE_OK;
        }
    }
    p->tok++;
    TRY(jinja_node(p, N_SLICE, line, &n));
    n->a = start;
    if (p->tok->type != T_COLON && p->tok->type != T_RBRACKET && p->tok->type != T_COMMA)
        TRY(jinja_parse_expr(p, true, &n->b));
    if (p->tok->type == T_COLON) {
        p->tok++;
        if (p->tok->type != T_RBRACKET && p->tok->type != T_COMMA) TRY(jinja_parse_expr(p, true, &n->c));
    }
    TRY(jinja_adopt(p, n, n->a));
    TRY(jinja_adopt(p, n, n->b));
    TRY(jinja_adopt(p, n, n->c));
    *out = n;
    return MOTE_OK;
}

static mote_status const_node(jparser *p, uint32_t line, jval v, jnode **out) {
    TRY(jinja_node(p, N_CONST, line, out));
    (*out)->value = v;
    return MOTE_OK;
}

static mote_status parse_subscript(jparser *p, jnode *obj, jnode **out) {
    uint32_t line = p->tok->line;
    jnode *n;
    bool dot = p->tok++->type == T_DOT;
    const jtok *t = p->tok;
    TRY(jinja_node(p, dot && t->type == T_NAME ? N_ATTR : N_ITEM, line, &n));
    n->a = obj;
    TRY(jinja_adopt(p, n, obj));
    if (dot) {
        p->tok++;
        if (t->type == T_NAME) TRY(jinja_text(p, t->text, &n->text));
        else if (t->type == T_INT) TRY(const_node(p, t->line, jint(t->i), &n->b));
        else {
            p->tok--;
            PARSE_FAIL(p, "expected name or number");
        }
    } else {
        jnode_vec parts = {0};
        mote_status s = MOTE_OK;
        while (p->tok->type != T_RBRACKET) {
            jnode *part;
            if (parts.n) TRYG(s, jinja_expect(p, T_COMMA));
            TRYG(s, parse_subscribed(p, &part));
            TRYG(s, jinja_adopt(p, n, part));
            TRYG(s, jinja_vec_put(p, &parts, part));
        }
        p->tok++;
        if (parts.n == 1) n->b = parts.v[0];
        else {
            TRYG(s, jinja_node(p, N_TUPLE, line, &n->b));
            TRYG(s, jinja_vec_done(p, &parts, &n->b->items));
        }
    out:
        mem_free(parts.v);
        TRY(s);
    }
    *out = n;
    return MOTE_OK;
}

/* A list or dict literal after its opening bracket. */
static mote_status parse_display(jparser *p, bool dict, jnode **out) {
    jtok_type close = dict ? T_RBRACE : T_RBRACKET;
    jnode *n, *part;
    jnode_vec parts = {0};
    mote_status s;
    TRY(jinja_node(p, dict ? N_DICT : N_LIST, p->tok->line, &n));
    p->tok++;
    while (p->tok->type != close) {
        if (parts.n) {
            TRYG(s, jinja_expect(p, T_COMMA));
            if (p->tok->type == close) break;
        }
        TRYG(s, jinja_parse_expr(p, true, &part));
        TRYG(s, jinja_vec_put(p, &parts, part));
        TRYG(s, jinja_adopt(p, n, part));
        if (!dict) continue;
        TRYG(s, jinja_expect(p, T_COLON));
        TRYG(s, jinja_parse_expr(p, true, &part));
        TRYG(s, jinja_vec_put(p, &parts, part));
        TRYG(s, jinja_adopt(p, n, part));
    }
    p->tok++;
    TRYG(s, jinja_vec_done(p, &parts, &n->items));
    *out = n;
out:
    mem_free(parts.v);
    return s;
}

/* A name, or one of the words that are constants. */
static mote_status parse_name(jparser *p, int flags, jnode **out) {
    const jtok *t = p->tok++;
    if (jtok_is_name(t, "true") || jtok_is_name(t, "True")) return const_node(p, t->line, jbool(true), out);
    if (jtok_is_name(t, "false") || jtok_is_name(t, "False")) return const_node(p, t->line, jbool(false), out);
    if (jtok_is_name(t, "none") || jtok_is_name(t, "None")) return const_node(p, t->line, JNONE, out);
    bool nsref = (flags & TUPLE_NAMESPACE) && p->tok->type == T_DOT;
    TRY(jinja_node(p, nsref ? N_NSREF : N_NAME, t->line, out));
    TRY(jinja_name_id(p, t->text, &(*out)->name));
    if (nsref) {
        p->tok++;
        if (p->tok->type != T_NAME) PARSE_FAIL(p, "expected a name after '.'");
        return jinja_text(p, p->tok++->text, &(*out)->text);
    }
    if (!(flags & TUPLE_TARGET))
        p->uses |= jtok_is_name(t, "caller") ? NF_CALLER : jtok_is_name(t, "kwargs") ? NF_KWARGS
                 : jtok_is_name(t, "varargs") ? NF_VARARGS : 0;
    return MOTE_OK;
}

/* Adjacent string literals are one string. */
static mote_status parse_string(jparser *p, jnode **out) {
    const jtok *t = p->tok++;
    str text = t->text;
    size_t total = text.n;
    for (const jtok *k = p->tok; k->type == T_STRING; k++) total += k->text.n;
    if (p->tok->type == T_STRING) {
        char *all = arena_alloc(&p->t->mem, total + 1, 1);
        if (!all) FAIL(p->err, MOTE_E_MEMORY, "out of memory reading a template");
        memcpy(all, text.p, text.n);
        for (size_t n = text.n; p->tok->type == T_STRING; n += p->tok++->text.n)
            if (p->tok->text.n) memcpy(all + n, p->tok->text.p, p->tok->text.n);
        text = (str){all, total};
    }
    const jstr *s;
    TRY(jinja_text(p, text, &s));
    return const_node(p, t->line, jstring(s), out);
}

static mote_status parse_primary(jparser *p, int flags, jnode **out) {
    const jtok *t = p->tok;
    switch (t->type) {
    case T_NAME: return parse_name(p, flags, out);
    case T_STRING: return parse_string(p, out);
    case T_INT: p->tok++; return const_node(p, t->line, jint(t->i), out);
    case T_FLOAT: p->tok++; return const_node(p, t->line, jfloat(t->f), out);
    case T_LPAREN:
        p->tok++;
        TRY(enter(p));
        TRY(jinja_parse_tuple(p, TUPLE_PARENS, NULL, out));
        p->expr_depth--;
        return jinja_expect(p, T_RPAREN);
    case T_LBRACKET: return parse_display(p, false, out);
    case T_LBRACE: return parse_display(p, true, out);
    default: PARSE_FAIL(p, "unexpected %s", jinja_tok_name(t->type));
    }
}

static bool tuple_end(const jparser *p, const char *end_name) {
    jtok_type t = p->tok->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN || (end_name && jtok_is_name(p->tok, end_name));
}

mote_status jinja_parse_tuple(jparser *p, int flags, const char *end_name, jnode **out) {
    uint32_t line = p->tok->line;
    jnode_vec parts = {0};
    bool is_tuple = false;
    jnode *n;
    mote_status s = MOTE_OK;
    for (;;) {
        if (parts.n) TRYG(s, jinja_expect(p, T_COMMA));
        if (tuple_end(p, end_name)) break;
        if (flags & TUPLE_TARGET) TRYG(s, parse_primary(p, flags, &n));
        else TRYG(s, jinja_parse_expr(p, !(flags & TUPLE_NO_COND), &n));
        TRYG(s, jinja_vec_put(p, &parts, n));
        if (p->tok->type != T_COMMA) break;
        is_tuple = true;
    }
    if (!is_tuple && parts.n) {
        *out = parts.v[0];
        goto out;
    }
    if (!is_tuple && !(flags & TUPLE_PARENS)) {
        s = jinja_parse_fail(p, __FILE__, __LINE__, "Expected an expression, got %s", jinja_tok_name(p->tok->type));
        goto out;
    }
    TRYG(s, jinja_node(p, N_TUPLE, line, &n));
    for (size_t i = 0; i < parts.n; i++) TRYG(s, jinja_adopt(p, n, parts.v[i]));
    TRYG(s, jinja_vec_done(p, &parts, &n->items));
    *out = n;
out:
    mem_free(parts.v);
    return s;
}

static bool can_assign(const jnode *n) {
    if (n->kind == N_TUPLE || n->kind == N_LIST) {
        for (uint32_t i = 0; i < n->items.n; i++)
            if (!can_assign(n->items.v[i])) return false;
        return true;
    }
    return n->kind == N_NAME || n->kind == N_NSREF;
}

mote_status jinja_parse_target(jparser *p, int flags, const char *end_name, jnode **out) {
    TRY(jinja_parse_tuple(p, flags | TUPLE_TARGET, end_name, out));
    if (!can_assign(*out)) PARSE_FAIL(p, "can't assign to this expression");
    return MOTE_OK;
}
