/* jinja_parse.c: the statement half of the parser, and what both halves share. */
#include "chat/jinja_int.h"

#include <stdarg.h>
#include <stdio.h>

mote_status jinja_parse_fail(jparser *p, const char *file, int line, const char *fmt, ...) {
    char msg[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return err_set(p->err, MOTE_E_FORMAT, file, line, "template line %u: %s", p->tok->line, msg);
}

static mote_status no_memory(jparser *p) {
    FAIL(p->err, MOTE_E_MEMORY, "template line %u: out of memory reading the template", p->tok->line);
}

mote_status jinja_node(jparser *p, jkind kind, uint32_t line, jnode **out) {
    jnode *n = *out = ARENA_NEW(&p->t->mem, jnode);
    if (!n) return no_memory(p);
    n->kind = (uint8_t)kind;
    n->line = line;
    n->depth = 1;
    return MOTE_OK;
}

mote_status jinja_adopt(jparser *p, jnode *n, const jnode *child) {
    if (!child || child->depth < n->depth) return MOTE_OK;
    n->depth = (uint16_t)(child->depth + 1);
    if (n->depth > JINJA_EXPR_DEPTH_MAX)
        FAIL(p->err, MOTE_E_LIMIT, "template line %u: expression nested deeper than %d", n->line, JINJA_EXPR_DEPTH_MAX);
    return MOTE_OK;
}

mote_status jinja_text(jparser *p, str s, const jstr **out) {
    jstr *t = ARENA_NEW(&p->t->mem, jstr);
    if (!t) return no_memory(p);
    *t = (jstr){.p = s.p, .n = (uint32_t)s.n, .n_chars = (uint32_t)jinja_str_chars(s)};
    *out = t;
    return MOTE_OK;
}

mote_status jinja_vec_put(jparser *p, jnode_vec *v, jnode *n) {
    TRY(mem_grow(&v->v, &v->cap, v->n + 1, sizeof(jnode *), JINJA_SOURCE_MAX, p->err));
    v->v[v->n++] = n;
    return MOTE_OK;
}

mote_status jinja_vec_done(jparser *p, jnode_vec *v, jnodes *out) {
    if (v->n) {
        out->v = ARENA_NEW_N(&p->t->mem, jnode *, v->n);
        if (!out->v) return no_memory(p);
        memcpy(out->v, v->v, v->n * sizeof(jnode *));
    }
    out->n = (uint32_t)v->n;
    return MOTE_OK;
}

static mote_status grow_names(jparser *p) {
    uint32_t slots = p->name_mask ? (p->name_mask + 1) * 2 : 256;
    uint32_t *index = MEM_NEW_N(uint32_t, slots);
    str *names = ARENA_NEW_N(&p->t->mem, str, slots / 2);
    if (!index || !names) {
        mem_free(index);
        return no_memory(p);
    }
    for (uint32_t i = 0; i < p->t->n_names; i++) {
        names[i] = p->t->names[i];
        uint32_t k = (uint32_t)str_hash(names[i]) & (slots - 1);
        while (index[k]) k = (k + 1) & (slots - 1);
        index[k] = i + 1;
    }
    mem_free(p->name_index);
    p->name_index = index;
    p->t->names = names;
    p->name_mask = slots - 1;
    p->name_cap = slots / 2;
    return MOTE_OK;
}

mote_status jinja_name_id(jparser *p, str name, uint32_t *id) {
    if (p->t->n_names == JINJA_NAMES_MAX) FAIL(p->err, MOTE_E_LIMIT, "the template uses more than %d names", JINJA_NAMES_MAX);
    if (p->t->n_names == p->name_cap) TRY(grow_names(p));
    uint32_t k = (uint32_t)str_hash(name) & p->name_mask;
    for (; p->name_index[k]; k = (k + 1) & p->name_mask)
        if (str_eq(p->t->names[p->name_index[k] - 1], name)) {
            *id = p->name_index[k] - 1;
            return MOTE_OK;
        }
    *id = p->t->n_names++;
    p->t->names[*id] = name;
    p->name_index[k] = *id + 1;
    return MOTE_OK;
}

bool jinja_skip_name(jparser *p, const char *name) {
    if (!jtok_is_name(p->tok, name)) return false;
    p->tok++;
    return true;
}

mote_status jinja_expect(jparser *p, jtok_type type) {
    if (p->tok->type != type) PARSE_FAIL(p, "expected %s, got %s", jinja_tok_name(type), jinja_tok_name(p->tok->type));
    p->tok++;
    return MOTE_OK;
}

const char *jinja_tok_name(jtok_type type) {
    static const char *const names[] = {
        [T_EOF] = "the end of the template", [T_DATA] = "text", [T_VAR_BEGIN] = "'{{'", [T_VAR_END] = "'}}'",
        [T_BLOCK_BEGIN] = "'{%'", [T_BLOCK_END] = "'%}'", [T_NAME] = "a name", [T_STRING] = "a string",
        [T_INT] = "an integer", [T_FLOAT] = "a float", [T_ADD] = "'+'", [T_SUB] = "'-'", [T_MUL] = "'*'",
        [T_DIV] = "'/'", [T_FLOORDIV] = "'//'", [T_MOD] = "'%'", [T_POW] = "'**'", [T_TILDE] = "'~'",
        [T_LBRACKET] = "'['", [T_RBRACKET] = "']'", [T_LPAREN] = "'('", [T_RPAREN] = "')'", [T_LBRACE] = "'{'",
        [T_RBRACE] = "'}'", [T_EQ] = "'=='", [T_NE] = "'!='", [T_GT] = "'>'", [T_GE] = "'>='", [T_LT] = "'<'",
        [T_LE] = "'<='", [T_ASSIGN] = "'='", [T_DOT] = "'.'", [T_COLON] = "':'", [T_PIPE] = "'|'",
        [T_COMMA] = "','", [T_SEMICOLON] = "';'",
    };
    return names[type];
}

static mote_status parse_body(jparser *p, const char *const *ends, jnodes *out);

static mote_status name_only(jparser *p, uint32_t *id) {
    if (p->tok->type != T_NAME) PARSE_FAIL(p, "expected a name, got %s", jinja_tok_name(p->tok->type));
    return jinja_name_id(p, p->tok++->text, id);
}

/* The body of a statement up to one of the end tags (NULL-terminated), whose name is then current. */
static mote_status parse_until(jparser *p, const char *const *ends, jnodes *out) {
    if (p->tok->type == T_COLON) p->tok++;
    TRY(jinja_expect(p, T_BLOCK_END));
    return parse_body(p, ends, out);
}

static mote_status parse_to_end(jparser *p, const char *end, jnodes *out) {
    const char *const ends[] = {end, NULL};
    TRY(parse_until(p, ends, out));
    p->tok++;
    return MOTE_OK;
}

static mote_status parse_for(jparser *p, jnode *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    n->kind = N_FOR;
    TRY(jinja_name_id(p, STR("loop"), &n->name));
    TRY(jinja_parse_target(p, 0, "in", &n->a));
    if (!jinja_skip_name(p, "in")) PARSE_FAIL(p, "expected 'in' in a for loop");
    TRY(jinja_parse_tuple(p, TUPLE_NO_COND, "recursive", &n->b));
    if (jinja_skip_name(p, "if")) TRY(jinja_parse_expr(p, true, &n->c));
    if (jinja_skip_name(p, "recursive")) n->flags |= NF_RECURSIVE;
    p->loop_depth++;
    TRY(parse_until(p, ends, &n->items));
    p->loop_depth--;
    if (jtok_is_name(p->tok++, "else")) TRY(parse_to_end(p, "endfor", &n->more));
    return MOTE_OK;
}

static mote_status parse_if(jparser *p, jnode *n) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    jnode_vec tests = {0}, blocks = {0};
    mote_status s = MOTE_OK;
    n->kind = N_IF;
    p->soft++;
    for (bool more = true; more;) {
        jnode *test = NULL, *block = NULL;
        TRYG(s, jinja_parse_tuple(p, TUPLE_NO_COND, NULL, &test));
        TRYG(s, jinja_node(p, N_BLOCK, p->tok->line, &block));
        TRYG(s, parse_until(p, ends, &block->items));
        TRYG(s, jinja_vec_put(p, &tests, test));
        TRYG(s, jinja_vec_put(p, &blocks, block));
        more = jtok_is_name(p->tok, "elif");
        if (jtok_is_name(p->tok++, "else")) {
            TRYG(s, jinja_node(p, N_BLOCK, p->tok->line, &n->b));
            TRYG(s, parse_to_end(p, "endif", &n->b->items));
        }
    }
    if (--p->soft == 0) p->unknown = NULL;
    TRYG(s, jinja_vec_done(p, &tests, &n->items));
    TRYG(s, jinja_vec_done(p, &blocks, &n->more));
out:
    mem_free(tests.v);
    mem_free(blocks.v);
    return s;
}

static mote_status parse_set(jparser *p, jnode *n) {
    TRY(jinja_parse_target(p, TUPLE_NAMESPACE, NULL, &n->a));
    if (p->tok->type == T_ASSIGN) {
        p->tok++;
        n->kind = N_SET;
        return jinja_parse_tuple(p, 0, NULL, &n->b);
    }
    n->kind = N_SET_BLOCK;
    TRY(jinja_parse_filters(p, NULL, false, &n->b));
    return parse_to_end(p, "endset", &n->items);
}

static mote_status parse_with(jparser *p, jnode *n) {
    jnode_vec v = {0};
    mote_status s = MOTE_OK;
    n->kind = N_WITH;
    while (p->tok->type != T_BLOCK_END) {
        jnode *target, *value;
        if (v.n) TRYG(s, jinja_expect(p, T_COMMA));
        TRYG(s, jinja_parse_target(p, 0, NULL, &target));
        TRYG(s, jinja_expect(p, T_ASSIGN));
        TRYG(s, jinja_parse_expr(p, true, &value));
        TRYG(s, jinja_vec_put(p, &v, target));
        TRYG(s, jinja_vec_put(p, &v, value));
    }
    TRYG(s, jinja_vec_done(p, &v, &n->more));
    s = parse_to_end(p, "endwith", &n->items);
out:
    mem_free(v.v);
    return s;
}

/* "(a, b=1)" of a macro or call block. */
static mote_status parse_signature(jparser *p, jnode *n) {
    jnode_vec params = {0};
    mote_status s;
    bool defaults = false;
    TRY(jinja_expect(p, T_LPAREN));
    while (p->tok->type != T_RPAREN) {
        jnode *param = NULL;
        if (params.n) TRYG(s, jinja_expect(p, T_COMMA));
        TRYG(s, jinja_node(p, N_NAME, p->tok->line, &param));
        TRYG(s, name_only(p, &param->name));
        TRYG(s, jinja_text(p, p->tok[-1].text, &param->text));
        if (str_is(p->tok[-1].text, "caller")) n->flags |= NF_EXPLICIT_CALLER;
        if (p->tok->type == T_ASSIGN) {
            p->tok++;
            defaults = true;
            TRYG(s, jinja_parse_expr(p, true, &param->a));
        } else if (defaults) {
            s = jinja_parse_fail(p, __FILE__, __LINE__, "non-default argument follows default argument");
            goto out;
        }
        TRYG(s, jinja_vec_put(p, &params, param));
    }
    p->tok++;
    TRYG(s, jinja_vec_done(p, &params, &n->more));
out:
    mem_free(params.v);
    return s;
}

/* A macro's or call block's body: notes which of the special variables it uses. */
static mote_status parse_macro_body(jparser *p, jnode *n, const char *end) {
    uint16_t outer = p->uses;
    int loops = p->loop_depth;
    p->uses = 0;
    p->loop_depth = 0;
    TRY(parse_to_end(p, end, &n->items));
    n->flags |= p->uses;
    p->uses |= outer;
    p->loop_depth = loops;
    return MOTE_OK;
}

static mote_status parse_macro(jparser *p, jnode *n) {
    n->kind = N_MACRO;
    TRY(name_only(p, &n->name));
    TRY(jinja_text(p, p->tok[-1].text, &n->text));
    TRY(parse_signature(p, n));
    return parse_macro_body(p, n, "endmacro");
}

static mote_status parse_call_block(jparser *p, jnode *n) {
    n->kind = N_CALL_BLOCK;
    if (p->tok->type == T_LPAREN) TRY(parse_signature(p, n));
    TRY(jinja_parse_expr(p, true, &n->a));
    if (n->a->kind != N_CALL) PARSE_FAIL(p, "expected a call after 'call'");
    TRY(jinja_text(p, STR("caller"), &n->text));
    return parse_macro_body(p, n, "endcall");
}

static mote_status parse_filter_block(jparser *p, jnode *n) {
    n->kind = N_FILTER_BLOCK;
    TRY(jinja_parse_filters(p, NULL, true, &n->a));
    return parse_to_end(p, "endfilter", &n->items);
}

static mote_status parse_block(jparser *p, jnode *n) {
    uint32_t id;
    n->kind = N_BLOCK;
    TRY(name_only(p, &id));
    str name = p->t->names[id];
    if (!jinja_skip_name(p, "scoped")) (void)jinja_skip_name(p, "required");
    TRY(parse_to_end(p, "endblock", &n->items));
    if (p->tok->type == T_NAME && str_eq(p->tok->text, name)) p->tok++;
    return MOTE_OK;
}

static mote_status parse_generation(jparser *p, jnode *n) {
    n->kind = N_BLOCK;
    return parse_to_end(p, "endgeneration", &n->items);
}

static mote_status parse_autoescape(jparser *p, jnode *n) {
    n->kind = N_BLOCK;
    TRY(jinja_parse_expr(p, true, &n->a));
    if (n->a->kind != N_CONST || jinja_truth(n->a->value)) PARSE_FAIL(p, "autoescape is not supported");
    n->a = NULL;
    return parse_to_end(p, "endautoescape", &n->items);
}

static mote_status parse_print(jparser *p, jnode *n) {
    jnode_vec v = {0};
    mote_status s = MOTE_OK;
    n->kind = N_PRINT;
    while (p->tok->type != T_BLOCK_END) {
        jnode *value;
        if (v.n) TRYG(s, jinja_expect(p, T_COMMA));
        TRYG(s, jinja_parse_expr(p, true, &value));
        TRYG(s, jinja_vec_put(p, &v, value));
    }
    TRYG(s, jinja_vec_done(p, &v, &n->items));
out:
    mem_free(v.v);
    return s;
}

static mote_status parse_do(jparser *p, jnode *n) {
    n->kind = N_DO;
    return jinja_parse_tuple(p, 0, NULL, &n->a);
}

static mote_status parse_break(jparser *p, jnode *n) {
    n->kind = jtok_is_name(p->tok - 1, "break") ? N_BREAK : N_CONTINUE;
    if (!p->loop_depth) PARSE_FAIL(p, "'%s' outside of a loop", n->kind == N_BREAK ? "break" : "continue");
    return MOTE_OK;
}

/* Tags that read other files: known, so that the message is clear, and never run. */
static mote_status parse_refused(jparser *p, jnode *n) {
    n->kind = N_REFUSED;
    TRY(jinja_text(p, p->tok[-1].text, &n->text));
    while (p->tok->type != T_BLOCK_END && p->tok->type != T_EOF) p->tok++;
    return MOTE_OK;
}

static mote_status parse_statement(jparser *p, jnode **out) {
    static const struct {
        const char *tag;
        mote_status (*parse)(jparser *p, jnode *n);
    } tags[] = {
        {"if", parse_if}, {"set", parse_set}, {"for", parse_for}, {"macro", parse_macro},
        {"break", parse_break}, {"continue", parse_break}, {"generation", parse_generation},
        {"call", parse_call_block}, {"filter", parse_filter_block}, {"with", parse_with}, {"do", parse_do},
        {"print", parse_print}, {"block", parse_block}, {"autoescape", parse_autoescape},
        {"include", parse_refused}, {"import", parse_refused}, {"from", parse_refused}, {"extends", parse_refused},
    };
    const jtok *t = p->tok;
    if (t->type != T_NAME) PARSE_FAIL(p, "tag name expected, got %s", jinja_tok_name(t->type));
    TRY(jinja_node(p, N_BLOCK, t->line, out));
    for (size_t i = 0; i < COUNT_OF(tags); i++)
        if (jtok_is_name(t, tags[i].tag)) {
            p->tok++;
            TRY(tags[i].parse(p, *out));
            return jinja_expect(p, T_BLOCK_END);
        }
    PARSE_FAIL(p, "Encountered unknown tag '%.*s'.", STR_ARG(t->text));
}

static bool is_end(const jparser *p, const char *const *ends) {
    for (; ends && *ends; ends++)
        if (jtok_is_name(p->tok, *ends)) return true;
    return false;
}

static mote_status parse_piece(jparser *p, jnode **out) {
    const jtok *t = p->tok++;
    if (t->type == T_DATA) {
        const jstr *text;
        TRY(jinja_node(p, N_DATA, t->line, out));
        TRY(jinja_text(p, t->text, &text));
        (*out)->value = jstring(text);
        return MOTE_OK;
    }
    if (t->type == T_VAR_BEGIN) {
        TRY(jinja_node(p, N_PRINT, t->line, out));
        TRY(jinja_parse_tuple(p, 0, NULL, &(*out)->a));
        return jinja_expect(p, T_VAR_END);
    }
    return parse_statement(p, out);
}

/* Text, variables and statements up to an end tag, or to the end of the template when ends is NULL. */
static mote_status parse_body(jparser *p, const char *const *ends, jnodes *out) {
    jnode_vec v = {0};
    mote_status s = MOTE_OK;
    if (++p->stmt_depth > JINJA_STMT_DEPTH_MAX)
        FAIL(p->err, MOTE_E_LIMIT, "template line %u: blocks nested deeper than %d", p->tok->line, JINJA_STMT_DEPTH_MAX);
    for (;;) {
        jnode *n;
        if (p->tok->type == T_EOF) {
            if (ends) s = jinja_parse_fail(p, __FILE__, __LINE__, "Unexpected end of template: '%s' is missing", ends[0]);
            if (s != MOTE_OK) goto out;
            break;
        }
        if (p->tok->type == T_BLOCK_BEGIN) {
            p->tok++;
            if (is_end(p, ends)) break;
            p->tok--;
        }
        TRYG(s, parse_piece(p, &n));
        TRYG(s, jinja_vec_put(p, &v, n));
    }
    p->stmt_depth--;
    s = jinja_vec_done(p, &v, out);
out:
    mem_free(v.v);
    return s;
}

mote_status jinja_parse(jinja **out, str source, mote_error *err) {
    jparser p = {.err = err};
    jtok *toks = NULL;
    size_t n;
    mote_status s;
    *out = NULL;
    if (source.n > JINJA_SOURCE_MAX)
        FAIL(err, MOTE_E_LIMIT, "the chat template has %zu bytes, at most %zu are read", source.n, JINJA_SOURCE_MAX);
    if (!utf8_valid(source.p, source.n)) FAIL(err, MOTE_E_FORMAT, "the chat template is not valid UTF-8");
    p.t = MEM_NEW(jinja);
    if (!p.t) FAIL(err, MOTE_E_MEMORY, "out of memory reading a template");
    arena_init(&p.t->mem, (size_t)256 << 20);
    TRYG(s, jinja_lex(&p.t->mem, source, &toks, &n, err));
    p.tok = toks;
    TRYG(s, jinja_name_id(&p, STR("caller"), &p.t->special[0]));
    TRYG(s, jinja_name_id(&p, STR("kwargs"), &p.t->special[1]));
    TRYG(s, jinja_name_id(&p, STR("varargs"), &p.t->special[2]));
    TRYG(s, parse_body(&p, NULL, &p.t->body));
    *out = p.t;
    p.t = NULL;
out:
    mem_free(toks);
    mem_free(p.name_index);
    jinja_close(&p.t);
    return s;
}

void jinja_close(jinja **t) {
    if (!*t) return;
    arena_free(&(*t)->mem);
    mem_free(*t);
    *t = NULL;
}
