/* yaml_test.c: YAML becomes the JSON it means, and what cannot be is refused by name and line. */
#include "base/base.h"

#include <setjmp.h>
#include <stdarg.h>
/* cmocka wants these first */
#include <cmocka.h>

static void becomes(const char *yaml, const char *json) {
    json_t *v, *want;
    mote_error e;
    if (yaml_parse(&v, str_of(yaml), "t", &e) != MOTE_OK) fail_msg("%s\n%s", yaml, e.message);
    assert_int_equal(json_parse(&want, str_of(json), "want", &e), MOTE_OK);
    char *got = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!json_equal(v, want)) fail_msg("%s\ngives %s, not %s", yaml, got, json);
    free(got);
    json_decref(v);
    json_decref(want);
}

static void refused(const char *yaml, mote_status code, const char *why) {
    json_t *v;
    mote_error e;
    assert_int_equal(yaml_parse(&v, str_of(yaml), "r.yaml", &e), code);
    assert_null(v);
    if (!strstr(e.message, why)) fail_msg("%s\n'%s' does not say '%s'", yaml, e.message, why);
}

static void scalars_are_those_of_yaml_1_2(void **state) {
    (void)state;
    becomes("[null, ~, Null, true, False, 12, -3, +4, 0o17, 0xFf, 0x]", "[null,null,null,true,false,12,-3,4,15,255,\"0x\"]");
    becomes("[1.5, .5, 1., 1e-5, -2E+3, 1e, 1.2.3, e5, .]", "[1.5,0.5,1.0,1e-5,-2000.0,\"1e\",\"1.2.3\",\"e5\",\".\"]");
    becomes("[yes, no, on, off, 12:30, 2001-01-01, 1_000, 010]",
            "[\"yes\",\"no\",\"on\",\"off\",\"12:30\",\"2001-01-01\",\"1_000\",10]");
    becomes("['12', \"true\", '', \"a\\tb\\u00e9\"]", "[\"12\",\"true\",\"\",\"a\\tb\\u00e9\"]");
    becomes("[!!str 12, !!float 3, !!int 0x10, !!bool true, !!null ~, ! 5]", "[\"12\",3.0,16,true,null,\"5\"]");
    becomes("a: |\n  x\n  y\nb: >\n  x\n  y\n", "{\"a\":\"x\\ny\\n\",\"b\":\"x y\\n\"}");
    becomes("9223372036854775807", "9223372036854775807");
    becomes("", "null");
    becomes("# nothing\n", "null");
}

static void trees_keep_their_shape_and_order(void **state) {
    (void)state;
    becomes("stage:\n  mods:\n    GPTQModifier: {scheme: W4A16, targets: [Linear], ignore: [lm_head], dampening_frac: 0.01}\n",
            "{\"stage\":{\"mods\":{\"GPTQModifier\":{\"scheme\":\"W4A16\",\"targets\":[\"Linear\"],\"ignore\":[\"lm_head\"],"
            "\"dampening_frac\":0.01}}}}");
    becomes("- a\n- - b\n  - c\n- {}\n- []\n- x: 1\n  y: 2\n", "[\"a\",[\"b\",\"c\"],{},[],{\"x\":1,\"y\":2}]");
    becomes("a: &x {k: [1, 2]}\nb: *x\nc: &y 5\nd: [*y, *y]\n", "{\"a\":{\"k\":[1,2]},\"b\":{\"k\":[1,2]},\"c\":5,\"d\":[5,5]}");
    json_t *v;
    mote_error e;
    assert_int_equal(yaml_parse(&v, STR("z: 1\na: 2\nm: 3\n"), "t", &e), MOTE_OK);
    char *got = json_dumps(v, JSON_COMPACT);
    assert_string_equal(got, "{\"z\":1,\"a\":2,\"m\":3}");
    free(got);
    json_decref(v);
}

static void what_cannot_be_is_refused_by_line(void **state) {
    (void)state;
    refused("a: 1\nb: 2\na: 3\n", MOTE_E_FORMAT, "r.yaml: line 3: the key 'a' is given twice");
    refused("a: &x 1\n<<: *x\n", MOTE_E_FORMAT, "line 2: merge keys");
    refused("a: 99999999999999999999\n", MOTE_E_FORMAT, "line 1: the integer 99999999999999999999");
    refused("a: 1e999\n", MOTE_E_FORMAT, "out of range");
    refused("a: .inf\n", MOTE_E_FORMAT, "infinity");
    refused("a: !python/object:os.system x\n", MOTE_E_FORMAT, "tag");
    refused("a: !!int x\n", MOTE_E_FORMAT, "tag");
    refused("a: !!set {x}\n", MOTE_E_FORMAT, "tag");
    refused("a: *x\n", MOTE_E_FORMAT, "the alias *x");
    refused("a: &x [1, *x]\n", MOTE_E_FORMAT, "the alias *x");
    refused("? [a]\n: b\n", MOTE_E_FORMAT, "a key must be");
    refused("a: 1\n--- \nb: 2\n", MOTE_E_FORMAT, "line 2: a second document");
    refused("a: [1, 2\nb: 3\n", MOTE_E_FORMAT, "bad YAML at line 2");
    refused("a: \xff\n", MOTE_E_FORMAT, "bad YAML at byte 3");
    refused("\"a\\0b\": 1\n", MOTE_E_FORMAT, "zero byte");
}

static void growth_is_bounded(void **state) {
    (void)state;
    buf b;
    buf_init(&b, YAML_BYTES_MAX + 16);
    buf_puts(&b, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"); /* a billion laughs */
    for (int i = 1; i < 10; i++) {
        buf_printf(&b, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++) buf_printf(&b, "%s*a%d", k ? "," : "", i - 1);
        buf_puts(&b, "]\n");
    }
    refused(b.p, MOTE_E_LIMIT, "aliases counted in full");
    buf_clear(&b);
    for (int i = 0; i < YAML_DEPTH_MAX + 1; i++) buf_putc(&b, '[');
    refused(b.p, MOTE_E_LIMIT, "nested deeper than 64");
    buf_clear(&b);
    buf_puts(&b, "a: &a [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\nb: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[*a\n");
    refused(b.p, MOTE_E_LIMIT, "nested deeper than 64");
    buf_clear(&b);
    for (int i = 0; i < YAML_ANCHORS_MAX + 1; i++) buf_printf(&b, "- &a%d 1\n", i);
    refused(b.p, MOTE_E_LIMIT, "anchors");
    buf_clear(&b);
    while (b.n <= YAML_BYTES_MAX) buf_puts(&b, "# nothing at all\n");
    refused(b.p, MOTE_E_LIMIT, "at most");
    buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalars_are_those_of_yaml_1_2),
        cmocka_unit_test(trees_keep_their_shape_and_order),
        cmocka_unit_test(what_cannot_be_is_refused_by_line),
        cmocka_unit_test(growth_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
