/* jinja_int.h: what the files of the template engine share.
 *
 *   source --jinja_lex--> tokens --jinja_parse, jinja_expr--> tree (one arena, owned by struct jinja)
 *   tree + variables --jinja_exec, jinja_eval--> text with provenance (one arena per render)
 *
 * Invariants
 * - Every string is valid UTF-8 and knows where its bytes come from (jstr.content and cuts).
 * - Values are immutable but for namespaces, cyclers, joiners and the position of iterators.
 * - Nothing is freed before the end of a render: all memory is the render's arena, which has a maximum.
 * - Every loop and every evaluation costs steps (jinja_spend); recursion is bounded by jinja_enter.
 * - A failing function has filled vm->err; the status only travels up. */
#ifndef MOTE_CHAT_JINJA_INT_H
#define MOTE_CHAT_JINJA_INT_H

#include "chat/chat.h"

#define JINJA_EXPR_DEPTH_MAX 200 /* nesting of an expression */
#define JINJA_STMT_DEPTH_MAX 60  /* nesting of blocks */
#define JINJA_EVAL_DEPTH_MAX 1500
#define JINJA_CALL_DEPTH_MAX 150 /* macros calling macros */
#define JINJA_NAMES_MAX 8192
#define JINJA_RANGE_MAX 100000 /* as Jinja2's sandbox */
#define JINJA_ARGS_MAX 12      /* parameters of a builtin */

/* ---- values ---- */

typedef enum jtype {
    JT_MISSING, /* not given; never seen by a template */
    JT_UNDEF,
    JT_NONE,
    JT_BOOL,
    JT_INT,
    JT_FLOAT,
    JT_STR,
    JT_LIST,
    JT_TUPLE,
    JT_DICT,
    JT_VIEW,   /* dict.keys(), .values(), .items() */
    JT_RANGE,
    JT_ITER,   /* what map, select, reverse … return: can be walked once */
    JT_NS,     /* namespace() */
    JT_LOOP,   /* the variable `loop` */
    JT_MACRO,
    JT_FUNC,   /* a global function */
    JT_METHOD, /* a builtin's method, bound to its object */
    JT_CYCLER,
    JT_JOINER
} jtype;

typedef struct jstr {
    const char *p;
    uint32_t n;           /* bytes */
    uint32_t n_chars;     /* code points; equal to n when all are ASCII */
    uint32_t n_cuts;
    bool content;         /* provenance of the first byte */
    bool markup;          /* result of |safe or |escape: meets plain text by escaping it */
    const uint32_t *cuts; /* ascending offsets in (0, n) where the provenance flips */
    struct jgrow *grow;   /* room behind the bytes, for `s = s + x`; or NULL */
} jstr;

/* The free bytes behind a string's buffer. Whoever's bytes end at `end` may append there; earlier views of
 * the buffer stay as they are. */
typedef struct jgrow {
    char *end;
    size_t left;
} jgrow;

typedef struct jval jval;
typedef struct jvm jvm;
typedef struct jnode jnode;
typedef struct jscope jscope;

typedef struct jlist {
    jval *v;
    uint32_t n;
    const char *type_name; /* of an iterator, for messages */
    uint32_t pos;          /* of an iterator: what has been taken */
    bool grouper;          /* a tuple made by groupby: has .grouper and .list */
} jlist;

typedef struct jundef {
    const char *hint; /* message, or NULL: made from the rest */
    const char *of;   /* type of the object it was looked up in, or NULL */
    const jstr *name;
    bool unsafe;      /* a forbidden attribute */
} jundef;

typedef struct jrange {
    int64_t start, stop, step, n;
} jrange;

typedef struct jdict jdict;
typedef struct jview {
    jdict *d;
    enum { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } kind;
} jview;

typedef struct jargs {
    const jval *pos;
    uint32_t n_pos;
    const struct jkwarg *kw;
    uint32_t n_kw;
} jargs;

/* A builtin: filter, test, method or function. self is the filtered or tested value, or the object.
 * params: names separated by commas, '=' after the optional ones; bound into `a` (absent: JT_MISSING).
 * NULL: the function binds jargs itself. '/' in front: keywords are not taken. */
typedef mote_status jbuiltin_fn(jvm *vm, jval self, const jval *a, const jargs *raw, jval *out);
#define JUNUSED __attribute__((unused))
#define JBUILTIN(name)                                                                             \
    static mote_status name(JUNUSED jvm *vm, JUNUSED jval self, JUNUSED const jval *a,             \
                            JUNUSED const jargs *raw, JUNUSED jval *out)
typedef struct jbuiltin {
    const char *name, *params;
    jbuiltin_fn *fn;
} jbuiltin;

typedef struct jmethod {
    struct jval_box *self;
    const jbuiltin *fn;
} jmethod;

typedef struct jmacro {
    const jnode *node;
    jscope *scope; /* where it was defined */
} jmacro;

typedef struct jcycler {
    jlist items;
    uint32_t pos;
} jcycler;

typedef struct jjoiner {
    const jstr *sep;
    bool used;
} jjoiner;

typedef struct jloop jloop;

struct jval {
    jtype t;
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *s;
        jlist *l;
        jdict *d; /* JT_DICT, JT_NS */
        const jundef *u;
        const jview *view;
        const jrange *range;
        jloop *loop;
        const jmacro *macro;
        const jbuiltin *func;
        const jmethod *method;
        jcycler *cycler;
        jjoiner *joiner;
    };
};

struct jval_box {
    jval v;
};
typedef struct jkwarg {
    const jstr *name;
    jval v;
} jkwarg;

typedef struct jentry {
    jval key, val;
    uint64_t hash;
} jentry;

/* Insertion-ordered hash table; index holds entry numbers + 1, made when there are more than a few. */
struct jdict {
    jentry *e;
    uint32_t n, cap;
    uint32_t *index;
    uint32_t mask;
};

/* A running for loop. Items are pulled one by one when they come from an iterator or pass a condition,
 * because the body may change what the condition sees; otherwise all are there from the start. */
struct jloop {
    jval *v;             /* accepted so far */
    uint32_t n, i;       /* their number; index0 of the current one */
    const jval *src;     /* what is left to pull from */
    uint32_t n_src;
    jlist *it;           /* the iterator behind src, or NULL */
    jscope *test_scope;  /* of the condition, or NULL */
    uint32_t depth0;
    const jnode *node;
    jscope *scope;       /* where the loop stands */
    jval changed;        /* last argument tuple of loop.changed, or JT_MISSING */
};

#define JUNDEF ((jval){.t = JT_UNDEF})
#define JMISSING ((jval){.t = JT_MISSING})
#define JNONE ((jval){.t = JT_NONE})
static inline jval jbool(bool b) { return (jval){.t = JT_BOOL, .b = b}; }
static inline jval jint(int64_t i) { return (jval){.t = JT_INT, .i = i}; }
static inline jval jfloat(double f) { return (jval){.t = JT_FLOAT, .f = f}; }
static inline jval jstring(const jstr *s) { return (jval){.t = JT_STR, .s = s}; }
static inline bool jis_list(jval v) { return v.t == JT_LIST || v.t == JT_TUPLE; }
static inline str jview_of(const jstr *s) { return (str){s->p, s->n}; }
static inline bool jgiven(jval v) { return v.t != JT_MISSING; }

/* ---- the tree ---- */

typedef enum jkind {
    /* expressions */
    N_CONST,   /* value */
    N_NAME,    /* name */
    N_LIST,    /* items */
    N_TUPLE,   /* items */
    N_DICT,    /* items: key, value, key, value … */
    N_ATTR,    /* a.text */
    N_ITEM,    /* a[b] */
    N_SLICE,   /* a[b:c:d] as the index of an N_ITEM: a, b, c, each may be NULL */
    N_CALL,    /* a(args) */
    N_FILTER,  /* a|builtin(args); a NULL in a filter block */
    N_TEST,    /* a is builtin(args) */
    N_COND,    /* b if a else c; c may be NULL */
    N_OR, N_AND, N_NOT, N_NEG, N_POS,
    N_BINARY,  /* a op b */
    N_COMPARE, /* a op items[0] op items[1] …, ops in more (N_CONST nodes with op) */
    N_CONCAT,  /* items joined by ~ */
    N_NSREF,   /* target: name.text */
    N_KEYWORD, /* text = a, in args */
    /* statements */
    N_DATA,    /* value: template text */
    N_PRINT,   /* a */
    N_IF,      /* items: test, test …; more: blocks; else in b */
    N_FOR,     /* name: that of `loop`; a target, b iter, c test; items body, more else; flag recursive */
    N_SET,     /* a target, b value */
    N_SET_BLOCK, /* a target, b filter or NULL, items body */
    N_WITH,    /* more: target, value, …; items body */
    N_MACRO,   /* name; params; items body */
    N_CALL_BLOCK, /* a: the N_CALL; params; items body */
    N_FILTER_BLOCK, /* a: filter chain; items body */
    N_BLOCK,   /* items, in a scope of its own (block, generation, autoescape) */
    N_BREAK, N_CONTINUE,
    N_DO,      /* a */
    N_REFUSED  /* text: a tag that is not part of the language (include, import, extends) */
} jkind;

enum jflag {
    NF_RECURSIVE = 1,
    NF_CALLER = 2,   /* the macro's body uses caller, kwargs, varargs */
    NF_KWARGS = 4,
    NF_VARARGS = 8,
    NF_EXPLICIT_CALLER = 16,
    NF_SPREAD = 32   /* a call with *args (b) or **kwargs (c) */
};

typedef enum jop {
    OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_FLOORDIV, OP_MOD, OP_POW,
    OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN
} jop;

typedef struct jnodes {
    jnode **v;
    uint32_t n;
} jnodes;

struct jnode {
    uint8_t kind, op;
    uint16_t flags, depth;
    uint32_t line, name;
    jval value;
    const jstr *text;
    jnode *a, *b, *c;
    jnodes items, more;
    const jbuiltin *builtin; /* NULL for an unknown filter or test in a branch that may never run */
};

/* A macro's parameters stand in `more` as N_NAME nodes; a default value hangs in the node's a. */

struct jinja {
    arena mem;
    jnodes body;
    str *names; /* by number */
    uint32_t n_names;
    uint32_t special[3]; /* numbers of caller, kwargs, varargs */
};

/* ---- lexer (jinja_lex.c) ---- */

typedef enum jtok_type {
    T_EOF, T_DATA, T_VAR_BEGIN, T_VAR_END, T_BLOCK_BEGIN, T_BLOCK_END, T_NAME, T_STRING, T_INT, T_FLOAT,
    T_ADD, T_SUB, T_MUL, T_DIV, T_FLOORDIV, T_MOD, T_POW, T_TILDE, T_LBRACKET, T_RBRACKET, T_LPAREN, T_RPAREN,
    T_LBRACE, T_RBRACE, T_EQ, T_NE, T_GT, T_GE, T_LT, T_LE, T_ASSIGN, T_DOT, T_COLON, T_PIPE, T_COMMA, T_SEMICOLON
} jtok_type;

typedef struct jtok {
    jtok_type type;
    uint32_t line;
    str text; /* name, decoded string or template data; lives in the template's arena */
    int64_t i;
    double f;
} jtok;

/* Splits source into *toks (mem_free'd by the caller), the last of which is T_EOF. */
mote_status jinja_lex(arena *mem, str source, jtok **toks, size_t *n, mote_error *err);

/* ---- parser (jinja_parse.c: statements; jinja_expr.c: expressions) ---- */

typedef struct jparser {
    jinja *t;
    const jtok *tok; /* the current one; the last is T_EOF, so tok[1] is valid before it */
    int expr_depth, stmt_depth, loop_depth;
    int soft;        /* inside a branch: unknown filters fail when they run */
    const jtok *unknown; /* the first unknown filter or test of the expression being read */
    uint16_t uses;   /* NF_CALLER, NF_KWARGS, NF_VARARGS seen since it was cleared */
    uint32_t *name_index; /* open addressing, number + 1 */
    uint32_t name_mask, name_cap;
    mote_error *err;
} jparser;

#define PARSE_FAIL(p, ...) return jinja_parse_fail((p), __FILE__, __LINE__, __VA_ARGS__)
mote_status jinja_parse_fail(jparser *p, const char *file, int line, const char *fmt, ...) MOTE_PRINTF(4, 5);
mote_status jinja_node(jparser *p, jkind kind, uint32_t line, jnode **out);
/* Keeps n->depth one above a child's (NULL is fine); fails when the tree gets too deep. */
mote_status jinja_adopt(jparser *p, jnode *n, const jnode *child);
mote_status jinja_name_id(jparser *p, str name, uint32_t *id);
mote_status jinja_text(jparser *p, str s, const jstr **out); /* as a string of the template */
typedef struct jnode_vec {
    jnode **v;
    size_t n, cap;
} jnode_vec;
mote_status jinja_vec_put(jparser *p, jnode_vec *v, jnode *n);
mote_status jinja_vec_done(jparser *p, jnode_vec *v, jnodes *out); /* moves into the arena, frees */
static inline bool jtok_is_name(const jtok *t, const char *name) {
    return t->type == T_NAME && str_is(t->text, name);
}
bool jinja_skip_name(jparser *p, const char *name);
mote_status jinja_expect(jparser *p, jtok_type type);
const char *jinja_tok_name(jtok_type type);

enum tuple_flags { TUPLE_NO_COND = 1, TUPLE_PARENS = 2, TUPLE_TARGET = 4, TUPLE_NAMESPACE = 8 };
mote_status jinja_parse_expr(jparser *p, bool with_cond, jnode **out);
mote_status jinja_parse_tuple(jparser *p, int flags, const char *end_name, jnode **out);
mote_status jinja_parse_target(jparser *p, int flags, const char *end_name, jnode **out);
/* Filters after a value: | a | b(…). first: the first one stands without its bar (filter blocks). */
mote_status jinja_parse_filters(jparser *p, jnode *value, bool first, jnode **out);

/* ---- machine ---- */

typedef struct jbuild jbuild;

struct jscope {
    jscope *parent;
    struct jvar *vars;
    uint32_t n, cap;
};
typedef struct jvar {
    uint32_t name;
    jval v;
} jvar;

struct jvm {
    const jinja *t;
    arena mem;
    int64_t steps;
    int depth, call_depth;
    uint32_t line;       /* of the node being run */
    mote_error *err;
    jbuild *out;
    jval *context;       /* variables and globals by name number */
    jval *root;          /* the template's own top-level variables by name number */
    jscope *scope;       /* NULL: top level */
    const jmacro *caller; /* of the call block whose call is being made, or NULL */
    enum { RUN_ON, RUN_BREAK, RUN_CONTINUE } signal; /* what the loop around has to do */
    struct tm now;
};

#define RAISE(vm, ...) return jinja_raise((vm), MOTE_E_TEMPLATE, __FILE__, __LINE__, __VA_ARGS__)
mote_status jinja_raise(jvm *vm, mote_status code, const char *file, int line, const char *fmt, ...)
    MOTE_PRINTF(5, 6);
mote_status jinja_no_memory(jvm *vm);
/* Fails with the message of an undefined value. */
mote_status jinja_raise_undef(jvm *vm, jval u);
mote_status jinja_spend_slow(jvm *vm);
static inline mote_status jinja_spend(jvm *vm, size_t steps) {
    vm->steps -= (int64_t)(steps > (size_t)INT32_MAX ? (size_t)INT32_MAX : steps);
    return vm->steps < 0 ? jinja_spend_slow(vm) : MOTE_OK;
}
mote_status jinja_enter(jvm *vm); /* one level deeper; undone by jinja_leave */
static inline void jinja_leave(jvm *vm) { vm->depth--; }
mote_status jinja_alloc(jvm *vm, size_t n, size_t size, void *out); /* *(void **)out */

mote_status jinja_eval(jvm *vm, const jnode *n, jval *out);
mote_status jinja_eval_args(jvm *vm, const jnode *n, const jval *first, jargs *out);
mote_status jinja_run(jvm *vm, const jnodes *body);
mote_status jinja_assign(jvm *vm, const jnode *target, jval v);
mote_status jinja_set_var(jvm *vm, uint32_t name, jval v);
mote_status jinja_push_scope(jvm *vm, jscope *parent, jscope **out); /* makes it current */
mote_status jinja_call_macro(jvm *vm, const jmacro *m, const jargs *args, jval *out);
mote_status jinja_loop_pull(jvm *vm, jloop *l, uint32_t want); /* tries to have l->n ≥ want */
mote_status jinja_loop_again(jvm *vm, const jloop *l, jval iterable, jval *out); /* loop(…) */
mote_status jinja_call(jvm *vm, jval callee, const jargs *args, jval *out);
mote_status jinja_call_builtin(jvm *vm, const jbuiltin *b, jval self, const jargs *args, jval *out);
mote_status jinja_binary(jvm *vm, jop op, jval a, jval b, jval *out);
mote_status jinja_compare_op(jvm *vm, jop op, jval a, jval b, bool *out);
mote_status jinja_attr(jvm *vm, jval obj, const jstr *name, jval *out);
mote_status jinja_item(jvm *vm, jval obj, jval key, jval *out);

/* ---- strings with provenance (jinja_str.c) ---- */

/* Grows in the render's arena. Errors are sticky until jinja_build_done. */
struct jbuild {
    jvm *vm;
    char *p;
    uint32_t *cuts;
    size_t n, cap, n_cuts, cap_cuts, max;
    bool first, last; /* provenance of the first and the last byte */
    bool over, failed;
};
void jinja_build_init(jbuild *b, jvm *vm);
void jinja_build_put(jbuild *b, const char *p, size_t n, bool content);
void jinja_build_lit(jbuild *b, const char *s); /* template text */
void jinja_build_str(jbuild *b, const jstr *s);
void jinja_build_part(jbuild *b, const jstr *s, size_t from, size_t n); /* bytes */
void jinja_build_repeat(jbuild *b, const jstr *s, int64_t times);
void jinja_build_fill(jbuild *b, char c, int64_t times, bool content);
mote_status jinja_build_done(jbuild *b, jval *out);
mote_status jinja_str_new(jvm *vm, const char *p, size_t n, bool content, jval *out); /* copies */
mote_status jinja_str_lit(jvm *vm, const char *s, jval *out);                       /* static storage */
mote_status jinja_str_sub(jvm *vm, const jstr *s, size_t from, size_t n, jval *out); /* bytes; a view */
mote_status jinja_concat(jvm *vm, const jstr *a, const jstr *b, jval *out);
bool jinja_str_content_at(const jstr *s, size_t at);
void jinja_build_cp(jbuild *b, const uint32_t *cp, size_t n, bool content);
bool jinja_str_any_content(const jstr *s);
mote_status jinja_escape(jvm *vm, const jstr *s, jval *out); /* HTML; markup passes through */
mote_status jinja_as_markup(jvm *vm, jval s, jval *out);
static inline bool jstr_eq(const jstr *a, const jstr *b) { return str_eq(jview_of(a), jview_of(b)); }
static inline bool jstr_is(const jstr *a, const char *b) { return str_is(jview_of(a), b); }
/* Byte offset of code point number i (i ≤ n_chars). */
size_t jinja_str_offset(const jstr *s, size_t i);
size_t jinja_str_chars(str s); /* code points */
static inline size_t jutf8_len(unsigned char lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }
uint32_t jinja_char_at(const char *p, size_t *len);
/* Python's character classes (jinja_char.c). */
bool jinja_is_space(uint32_t c);
bool jinja_is_alpha(uint32_t c);
bool jinja_is_digit(uint32_t c);   /* str.isdigit */
bool jinja_is_decimal(uint32_t c);
bool jinja_is_numeric(uint32_t c);
bool jinja_is_alnum(uint32_t c);
bool jinja_is_word(uint32_t c);    /* \w */
bool jinja_is_upper(uint32_t c);
bool jinja_is_lower(uint32_t c);
bool jinja_is_title(uint32_t c);
bool jinja_is_printable(uint32_t c);
/* Upper, lower or title case of c, up to 3 code points; returns their number. */
size_t jinja_to_upper(uint32_t c, uint32_t out[3]);
size_t jinja_to_lower(uint32_t c, uint32_t out[3]);
size_t jinja_to_title(uint32_t c, uint32_t out[3]);
/* The view of s without white space (or the characters of set, when given) at its ends. */
enum { STRIP_LEFT = 1, STRIP_RIGHT = 2 };
mote_status jinja_strip(jvm *vm, const jstr *s, const jstr *set, int sides, jval *out);

/* ---- values (jinja_value.c, jinja_repr.c) ---- */

const char *jinja_type_name(jval v);
bool jinja_truth(jval v);
mote_status jinja_equal(jvm *vm, jval a, jval b, bool *out);
mote_status jinja_order(jvm *vm, jval a, jval b, const char *op, int *out); /* <0, 0, >0; 2 for unordered (NaN) */
mote_status jinja_contains(jvm *vm, jval seq, jval v, bool *out);
mote_status jinja_list_new(jvm *vm, uint32_t n, jtype t, jval *out); /* n items of none, LIST or TUPLE */
mote_status jinja_iter_new(jvm *vm, jval *v, uint32_t n, const char *type_name, jval *out);
mote_status jinja_dict_new(jvm *vm, uint32_t cap, jval *out);
mote_status jinja_dict_put(jvm *vm, jdict *d, jval key, jval val);
mote_status jinja_dict_get(jvm *vm, const jdict *d, jval key, jval *out, bool *found);
jval jinja_dict_find(const jdict *d, str key); /* JT_MISSING when absent */
mote_status jinja_undef(jvm *vm, const char *hint, jval *out);
mote_status jinja_undef_attr(jvm *vm, jval obj, const jstr *name, bool unsafe, jval *out);
mote_status jinja_undef_name(jvm *vm, str name, jval *out);
/* All items of an iterable (an iterator is used up); fails for what is none. */
mote_status jinja_items(jvm *vm, jval v, jval **items, uint32_t *n);
bool jinja_iterable(jval v);
/* len(v), or -1 when it has none. */
int64_t jinja_length(jval v);
mote_status jinja_str_of(jvm *vm, jval v, const jstr **out);  /* str(v) */
mote_status jinja_print(jvm *vm, jbuild *b, jval v);          /* str(v), appended */
mote_status jinja_repr(jvm *vm, jbuild *b, jval v);           /* repr(v), appended */
void jinja_float_repr(double f, char out[40]);
bool jinja_parse_int(str s, int base, int64_t *out); /* int(s, base); false when it fails or overflows */
bool jinja_parse_float(str s, double *out);                            /* float(s) */
mote_status jinja_to_int(jvm *vm, jval v, const char *what, int64_t *out); /* an int or bool, else fails */
/* Indices of a slice as Python's slice.indices: n steps from start. */
mote_status jinja_slice_bounds(jvm *vm, jval start, jval stop, jval step, int64_t len, jrange *out);
mote_status jinja_sort(jvm *vm, jval *v, const jval *keys, uint32_t n, bool reverse); /* stable, by keys */

/* ---- JSON, formatting, time ---- */

/* A value made of JSON. roles: known role names in it count as template text. */
mote_status jinja_from_json(jvm *vm, json_t *j, bool content, jval *out);
mote_status jinja_from_messages(jvm *vm, json_t *j, jval *out);
extern const jbuiltin jinja_tojson;
/* tuple: the arguments stood in a tuple, so all of them must be used; a lone list or mapping need not be. */
mote_status jinja_format_percent(jvm *vm, const jstr *fmt, const jargs *args, bool tuple, jval *out);
mote_status jinja_format_braces(jvm *vm, const jstr *fmt, const jargs *args, const jdict *map, jval *out);
mote_status jinja_strftime(jvm *vm, const jstr *fmt, const struct tm *t, jval *out);

/* ---- builtins ---- */

const jbuiltin *jinja_filter(str name); /* NULL when there is none */
const jbuiltin *jinja_test(str name);
const jbuiltin *jinja_global(str name);
/* Sets *b to the method; *unsafe for one that would change its object. Neither: there is no such method. */
void jinja_find_method(jval v, str name, const jbuiltin **b, bool *unsafe);
extern const jbuiltin jinja_filters_text[], jinja_filters_seq[]; /* end with name NULL */
const jbuiltin *jinja_builtin_find(const jbuiltin *table, str name);
/* Attribute path "a.b.0" or an index, as map(attribute=…) takes it; otherwise: for undefined parts. */
mote_status jinja_get_path(jvm *vm, jval v, jval path, jval otherwise, jval *out);

/* ---- text operations that filters and methods share (jinja_text.c) ---- */

enum { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITAL, CASE_SWAP };
mote_status jinja_change_case(jvm *vm, const jstr *s, int mode, jval *out);
mote_status jinja_replace(jvm *vm, const jstr *s, const jstr *from, const jstr *to, int64_t max, jval *out);
/* The n values joined by sep; any_type: str() of each, else only strings are taken. */
mote_status jinja_join(jvm *vm, const jstr *sep, const jval *v, uint32_t n, bool any_type, jval *out);
/* Lists of parts. sep NULL: white space. max < 0: all. */
mote_status jinja_split(jvm *vm, const jstr *s, const jstr *sep, int64_t max, bool from_right, jval *out);
mote_status jinja_split_lines(jvm *vm, const jstr *s, bool keep_ends, jval *out);
/* Padded with fill (one character) to width; where: STRIP_LEFT pads on the left, STRIP_RIGHT on the right, both: centres. */
mote_status jinja_pad(jvm *vm, const jstr *s, int64_t width, const jstr *fill, int where, jval *out);
/* A list that grows. */
typedef struct jvec {
    jval *v;
    uint32_t n, cap;
} jvec;
mote_status jinja_vec_add(jvm *vm, jvec *l, jval v);
mote_status jinja_vec_list(jvm *vm, const jvec *l, jval *out);

#endif
