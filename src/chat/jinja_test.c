/* jinja_test.c: what stands after `is`. */
#include "chat/jinja_int.h"

#include <math.h>

JBUILTIN(is_defined) {
    *out = jbool(self.t != JT_UNDEF);
    return MOTE_OK;
}
JBUILTIN(is_undefined) {
    *out = jbool(self.t == JT_UNDEF);
    return MOTE_OK;
}
JBUILTIN(is_none) {
    *out = jbool(self.t == JT_NONE);
    return MOTE_OK;
}
JBUILTIN(is_boolean) {
    *out = jbool(self.t == JT_BOOL);
    return MOTE_OK;
}
JBUILTIN(is_true) {
    *out = jbool(self.t == JT_BOOL && self.b);
    return MOTE_OK;
}
JBUILTIN(is_false) {
    *out = jbool(self.t == JT_BOOL && !self.b);
    return MOTE_OK;
}
JBUILTIN(is_integer) {
    *out = jbool(self.t == JT_INT);
    return MOTE_OK;
}
JBUILTIN(is_float) {
    *out = jbool(self.t == JT_FLOAT);
    return MOTE_OK;
}
JBUILTIN(is_number) {
    *out = jbool(self.t == JT_INT || self.t == JT_FLOAT || self.t == JT_BOOL);
    return MOTE_OK;
}
JBUILTIN(is_string) {
    *out = jbool(self.t == JT_STR);
    return MOTE_OK;
}
JBUILTIN(is_mapping) {
    *out = jbool(self.t == JT_DICT);
    return MOTE_OK;
}
JBUILTIN(is_iterable) {
    *out = jbool(jinja_iterable(self));
    return MOTE_OK;
}
JBUILTIN(is_sequence) {
    *out = jbool(self.t == JT_UNDEF || self.t == JT_STR || jis_list(self) || self.t == JT_DICT || self.t == JT_RANGE);
    return MOTE_OK;
}
JBUILTIN(is_callable) {
    *out = jbool(self.t == JT_UNDEF || self.t == JT_MACRO || self.t == JT_FUNC || self.t == JT_METHOD ||
                 self.t == JT_LOOP || self.t == JT_JOINER);
    return MOTE_OK;
}
JBUILTIN(is_escaped) {
    *out = jbool(self.t == JT_STR && self.s->markup);
    return MOTE_OK;
}

JBUILTIN(is_sameas) {
    jval o = a[0];
    *out = jbool(false);
    if (self.t != o.t) return MOTE_OK;
    if (self.t == JT_BOOL || self.t == JT_INT || self.t == JT_NONE) *out = jbool(self.t == JT_NONE || (self.t == JT_BOOL ? self.b == o.b : self.i == o.i));
    else if (self.t != JT_FLOAT) *out = jbool(self.l == o.l);
    return MOTE_OK;
}

/* self % num as the tests odd, even and divisibleby need it. */
static mote_status modulo(jvm *vm, jval self, jval num, jval *out) {
    if (self.t == JT_STR) RAISE(vm, "not all arguments converted during string formatting");
    return jinja_binary(vm, OP_MOD, self, num, out);
}

JBUILTIN(is_divisibleby) {
    jval m;
    TRY(modulo(vm, self, a[0], &m));
    *out = jbool(!jinja_truth(m));
    return MOTE_OK;
}
JBUILTIN(is_even) {
    jval m;
    TRY(modulo(vm, self, jint(2), &m));
    *out = jbool(!jinja_truth(m));
    return MOTE_OK;
}
JBUILTIN(is_odd) {
    jval m;
    TRY(modulo(vm, self, jint(2), &m));
    *out = jbool(m.t == JT_FLOAT ? m.f == 1 : m.i == 1);
    return MOTE_OK;
}

/* str(self) has cased characters, all of them of one case. */
static mote_status all_case(jvm *vm, jval self, bool upper, jval *out) {
    const jstr *s;
    bool any = false, all = true;
    TRY(jinja_str_of(vm, self, &s));
    for (size_t i = 0, len; i < s->n && all; i += len) {
        uint32_t c = jinja_char_at(s->p + i, &len);
        bool up = jinja_is_upper(c), low = jinja_is_lower(c);
        if (upper ? up : low) any = true;
        else if (up || low || jinja_is_title(c)) all = false;
    }
    *out = jbool(any && all);
    return jinja_spend(vm, s->n / 16);
}

JBUILTIN(is_upper) {
    return all_case(vm, self, true, out);
}
JBUILTIN(is_lower) {
    return all_case(vm, self, false, out);
}

static mote_status compare(jvm *vm, jop op, jval x, jval y, jval *out) {
    bool b;
    TRY(jinja_compare_op(vm, op, x, y, &b));
    *out = jbool(b);
    return MOTE_OK;
}

#define COMPARE(name, op)                                       \
    JBUILTIN(name) {                                                \
        return compare(vm, (op), self, a[0], out);              \
    }
COMPARE(is_eq, OP_EQ)
COMPARE(is_ne, OP_NE)
COMPARE(is_lt, OP_LT)
COMPARE(is_le, OP_LE)
COMPARE(is_gt, OP_GT)
COMPARE(is_ge, OP_GE)
COMPARE(is_in, OP_IN)

JBUILTIN(is_filter) {
    *out = jbool(self.t == JT_STR && jinja_filter(jview_of(self.s)) != NULL);
    return MOTE_OK;
}
JBUILTIN(is_test) {
    *out = jbool(self.t == JT_STR && jinja_test(jview_of(self.s)) != NULL);
    return MOTE_OK;
}

static const jbuiltin tests[] = {
    {"defined", "", is_defined}, {"string", "", is_string}, {"none", "", is_none}, {"mapping", "", is_mapping},
    {"undefined", "", is_undefined}, {"iterable", "", is_iterable}, {"sequence", "", is_sequence},
    {"boolean", "", is_boolean}, {"true", "", is_true}, {"false", "", is_false}, {"integer", "", is_integer},
    {"float", "", is_float}, {"number", "", is_number}, {"callable", "", is_callable}, {"escaped", "", is_escaped},
    {"sameas", "other", is_sameas}, {"divisibleby", "num", is_divisibleby}, {"even", "", is_even}, {"odd", "", is_odd},
    {"upper", "", is_upper}, {"lower", "", is_lower}, {"in", "seq", is_in},
    {"eq", "/b", is_eq}, {"equalto", "/b", is_eq}, {"==", "/b", is_eq}, {"ne", "/b", is_ne}, {"!=", "/b", is_ne},
    {"lt", "/b", is_lt}, {"lessthan", "/b", is_lt}, {"<", "/b", is_lt}, {"le", "/b", is_le}, {"<=", "/b", is_le},
    {"gt", "/b", is_gt}, {"greaterthan", "/b", is_gt}, {">", "/b", is_gt}, {"ge", "/b", is_ge}, {">=", "/b", is_ge},
    {"filter", "", is_filter}, {"test", "", is_test},
    {NULL, NULL, NULL},
};

const jbuiltin *jinja_test(str name) { return jinja_builtin_find(tests, name); }
