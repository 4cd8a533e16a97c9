/* chat_parser_test.c: answers into reasoning, content and tool calls, cut into pieces of every size; and requests. */
#include "chat/chat.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

typedef struct record {
    buf reasoning, content, calls; /* calls: "name(arguments)#id " */
} record;

static mote_status on_event(void *ctx, const chat_event *e, mote_error *err) {
    (void)err;
    record *r = ctx;
    if (e->kind == CHAT_TOOL_CALL) {
        buf_put_str(&r->calls, e->name);
        buf_puts(&r->calls, "(");
        buf_put_str(&r->calls, e->arguments);
        buf_puts(&r->calls, ")");
        if (e->id.p) buf_printf(&r->calls, "#%.*s", STR_ARG(e->id));
    } else buf_put_str(e->kind == CHAT_REASONING ? &r->reasoning : &r->content, e->text);
    return MOTE_OK;
}

typedef struct answer {
    chat_tool_syntax tools;
    const char *prompt, *text, *reasoning, *content, *calls;
} answer;

/* Every way to feed the answer in pieces of one size gives the same. */
static void check(const answer *a) {
    chat_syntax s = {.tools = a->tools, .think_open = "<think>", .think_close = "</think>"};
    size_t n = strlen(a->text);
    for (size_t piece = 1; piece <= n + 1; piece += piece < 20 ? 1 : 17) {
        record r;
        chat_parser *p;
        mote_error err = {0};
        buf_init(&r.reasoning, 1 << 20);
        buf_init(&r.content, 1 << 20);
        buf_init(&r.calls, 1 << 20);
        assert_int_equal(chat_parser_open(&p, &s, str_of(a->prompt), a->tools != CHAT_TOOLS_NONE, on_event, &r, &err), MOTE_OK);
        for (size_t i = 0; i < n; i += piece)
            assert_int_equal(chat_parser_put(p, (str){a->text + i, MIN(piece, n - i)}, &err), MOTE_OK);
        assert_int_equal(chat_parser_end(p, &err), MOTE_OK);
        chat_parser_close(&p);
        if (strcmp(buf_str(&r.reasoning).p, a->reasoning) || strcmp(buf_str(&r.content).p, a->content) || strcmp(buf_str(&r.calls).p, a->calls))
            fail_msg("%s\n  in pieces of %zu\n  reasoning %s\n  content   %s\n  calls     %s", a->text, piece, buf_str(&r.reasoning).p,
                     buf_str(&r.content).p, buf_str(&r.calls).p);
        buf_free(&r.reasoning);
        buf_free(&r.content);
        buf_free(&r.calls);
    }
}

static void answers_come_apart(void **state) {
    (void)state;
    static const answer answers[] = {
        {CHAT_TOOLS_NONE, "", "Hello <b> there\n", "", "Hello <b> there\n", ""},
        {CHAT_TOOLS_NONE, "", "  leading", "", "  leading", ""},
        {CHAT_TOOLS_NONE, "", "<think>\nI think\n</think>\n\nAnswer </think> x", "I think", "Answer </think> x", ""},
        {CHAT_TOOLS_NONE, "…<think>\n", "I think\n</think>\n\nAnswer", "I think", "Answer", ""},
        {CHAT_TOOLS_NONE, "", "<thinking> no", "", "<thinking> no", ""},
        {CHAT_TOOLS_NONE, "", "a <think>b</think>", "", "a <think>b</think>", ""},
        {CHAT_TOOLS_NONE, "…<think>\n", "never ends </thin", "never ends </thin", "", ""},
        {CHAT_TOOLS_NONE, "", "<tool_call>{\"name\": \"f\"}</tool_call>", "", "<tool_call>{\"name\": \"f\"}</tool_call>", ""},
        {CHAT_TOOLS_TAGGED, "", "Sure.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 0.1, \"b\": \"}\"}}\n</tool_call>\n<tool_call>{\"name\": \"g\"}</tool_call>", "", "Sure.", "f({\"a\": 0.1, \"b\": \"}\"})g({})"},
        {CHAT_TOOLS_TAGGED, "", "<think>t</think>\n<tool_call>{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}</tool_call>", "t", "", "f({\"x\": 1})"},
        {CHAT_TOOLS_TAGGED, "", "<tool_call>not json</tool_call> after", "", "<tool_call>not json</tool_call> after", ""},
        {CHAT_TOOLS_TAGGED, "", "<tool_call>{broken</tool_call> after", "", "<tool_call>{broken</tool_call> after", ""},
        {CHAT_TOOLS_TAGGED, "", "<tool_call></tool_call>", "", "<tool_call></tool_call>", ""},
        {CHAT_TOOLS_TAGGED, "", "x <tool_call>", "", "x <tool_call>", ""},
        {CHAT_TOOLS_TAGGED, "", "<tool_call>{\"name\": \"f\", \"arguments\": {}}", "", "", "f({})"},
        {CHAT_TOOLS_TAGGED, "", "<tool_call>\n<function=f>\n<parameter=city>\nParis\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>", "", "", "f({\"city\":\"Paris\",\"n\":3})"},
        {CHAT_TOOLS_TAGGED, "", "<tool_call>f\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>o</arg_key><arg_value>{\"k\": [1]}</arg_value></tool_call>", "", "", "f({\"city\":\"Paris\",\"o\":{\"k\":[1]}})"},
        {CHAT_TOOLS_JSON, "", "{\"name\": \"f\", \"parameters\": {\"q\": \"a\\\"}\"}}", "", "", "f({\"q\": \"a\\\"}\"})"},
        {CHAT_TOOLS_JSON, "", "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"x\": 1}}", "", "", "f({})g({\"x\": 1})"},
        {CHAT_TOOLS_JSON, "", "{\"answer\": 42} is it", "", "{\"answer\": 42} is it", ""},
        {CHAT_TOOLS_JSON, "", "<|python_tag|>print(1)", "", "print(1)", ""},
        {CHAT_TOOLS_JSON, "", "Text {\"name\": \"f\"}", "", "Text {\"name\": \"f\"}", ""},
        {CHAT_TOOLS_MISTRAL, "", "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"a\": [1, 2]}, \"id\": \"abcdefghi\"}, {\"name\": \"g\", \"arguments\": {}}]", "", "", "f({\"a\": [1, 2]})#abcdefghig({})"},
        {CHAT_TOOLS_MISTRAL, "", "ok [TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]123[ARGS]{}", "", "ok", "f({\"a\": 1})g({})#123"},
        {CHAT_TOOLS_MISTRAL, "", "[TOOL_CALLS] nonsense", "", "[TOOL_CALLS] nonsense", ""},
        {CHAT_TOOLS_FUNCTION, "", "<function=f>{\"a\": 1}</function><function=g>{}</function>", "", "", "f({\"a\": 1})g({})"},
        {CHAT_TOOLS_FUNCTION, "", "<function=f>x</function>", "", "<function=f>x</function>", ""},
        {CHAT_TOOLS_HARMONY, "", "<|channel|>analysis<|message|>hm\n<|end|><|start|>assistant<|channel|>final<|message|>Yes.\n<|return|>", "hm", "Yes.\n", ""},
        {CHAT_TOOLS_HARMONY, "", "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}<|call|>", "", "", "f({\"a\": 1})"},
        {CHAT_TOOLS_HARMONY, "", "<|channel|>final<|message|>cut of", "", "cut of", ""},
        {CHAT_TOOLS_HARMONY, "", "plain text", "", "plain text", ""},
    };
    for (size_t i = 0; i < COUNT_OF(answers); i++) check(&answers[i]);
}

/* A megabyte of an unfinished call in small pieces is read once, not once per piece. */
static void a_long_call_is_linear(void **state) {
    (void)state;
    static const chat_tool_syntax all[] = {CHAT_TOOLS_TAGGED, CHAT_TOOLS_JSON, CHAT_TOOLS_MISTRAL, CHAT_TOOLS_HARMONY};
    static const char *const begin[] = {"<tool_call>{\"name\": \"", "{\"name\": \"", "[TOOL_CALLS][{\"name\": \"", "<|channel|>commentary to=functions.f<|message|>"};
    for (size_t k = 0; k < COUNT_OF(all); k++) {
        chat_syntax s = {.tools = all[k]};
        record r = {.reasoning = {.max = 1 << 22}, .content = {.max = 1 << 22}, .calls = {.max = 1 << 22}};
        chat_parser *p;
        mote_error err = {0};
        uint64_t t0 = clock_ns();
        assert_int_equal(chat_parser_open(&p, &s, STR(""), true, on_event, &r, &err), MOTE_OK);
        assert_int_equal(chat_parser_put(p, str_of(begin[k]), &err), MOTE_OK);
        for (int i = 0; i < 200000; i++) assert_int_equal(chat_parser_put(p, STR("}]<|{"), &err), MOTE_OK);
        assert_int_equal(chat_parser_end(p, &err), MOTE_OK);
        assert_true(r.content.n + r.calls.n >= 1000000);
        if ((double)(clock_ns() - t0) / 1e9 > 5) fail_msg("syntax %d took too long", (int)all[k]);
        chat_parser_close(&p);
        buf_free(&r.content);
        buf_free(&r.calls);
    }
}

static chat_template *open_template(const char *source, const char *tools) {
    chat_template *t;
    mote_error err = {0};
    chat_template_source src = {.text = {source, source ? strlen(source) : 0}, .tool_use = {tools, tools ? strlen(tools) : 0},
                                .bos_token = STR("<s>"), .has_chatml = true};
    if (chat_template_open(&t, &src, &err) != MOTE_OK) fail_msg("%s", err.message);
    return t;
}

static mote_status ask(const chat_template *t, const char *messages, const char *tools, const char *kwargs, chat_text *out, mote_error *err) {
    chat_request r = {.add_generation_prompt = true, .enable_thinking = -1};
    assert_int_equal(json_parse(&r.messages, str_of(messages), "m", NULL), MOTE_OK);
    if (tools) assert_int_equal(json_parse(&r.tools, str_of(tools), "t", NULL), MOTE_OK);
    if (kwargs) assert_int_equal(json_parse(&r.kwargs, str_of(kwargs), "k", NULL), MOTE_OK);
    mote_status s = chat_template_render(t, &r, out, err);
    json_decref(r.messages);
    json_decref(r.tools);
    json_decref(r.kwargs);
    return s;
}

static void requests_are_checked_and_rendered(void **state) {
    (void)state;
    chat_template *t = open_template("{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{{ enable_thinking }}{{ tools is none }}", "T{{ tools|length }}");
    chat_text out;
    mote_error err = {0};
    assert_int_equal(ask(t, "[{\"role\": \"user\", \"content\": \"<s>hi\"}]", NULL, "{\"enable_thinking\": false}", &out, &err), MOTE_OK);
    assert_string_equal(out.p, "<s>[user]<s>hiFalseTrue");
    assert_int_equal(out.n_spans, 3);
    assert_true(out.spans[1].is_content && out.spans[1].offset == 9 && out.spans[1].len == 5);
    chat_text_free(&out);
    assert_int_equal(ask(t, "[{\"role\": \"user\", \"content\": \"x\"}]", "[{\"type\": \"function\"}]", NULL, &out, &err), MOTE_OK);
    assert_string_equal(out.p, "T1");
    chat_text_free(&out);
    static const char *const bad[] = {"[]", "{}", "[5]", "[{\"content\": \"x\"}]", "[{\"role\": 5}]", "[{\"role\": \"user\", \"content\": 5}]",
                                      "[{\"role\": \"user\", \"content\": [5]}]", "[{\"role\": \"user\", \"content\": {}}]"};
    for (size_t i = 0; i < COUNT_OF(bad); i++) assert_int_equal(ask(t, bad[i], NULL, NULL, &out, &err), MOTE_E_USAGE);
    assert_int_equal(ask(t, "[{\"role\": \"user\"}]", NULL, "{\"messages\": []}", &out, &err), MOTE_E_USAGE);
    assert_int_equal(ask(t, "[{\"role\": \"user\"}]", NULL, "{\"bos_token\": \"x\"}", &out, &err), MOTE_E_USAGE);
    chat_template_close(&t);
    assert_null(t);
}

static void a_model_without_a_template_gets_one(void **state) {
    (void)state;
    chat_template *t = open_template(NULL, NULL);
    chat_text out;
    mote_error err = {0};
    assert_int_equal(chat_template_kind_of(t), CHAT_TEMPLATE_CHATML);
    assert_non_null(chat_template_note(t));
    assert_int_equal(ask(t, "[{\"role\": \"user\", \"content\": \"a<|im_end|>\"}]", NULL, NULL, &out, &err), MOTE_OK);
    assert_string_equal(out.p, "<|im_start|>user\na<|im_end|><|im_end|>\n<|im_start|>assistant\n");
    assert_int_equal(out.n_spans, 3);
    chat_text_free(&out);
    chat_template_close(&t);
    chat_template_source src = {0};
    assert_int_equal(chat_template_open(&t, &src, &err), MOTE_OK);
    assert_int_equal(chat_template_kind_of(t), CHAT_TEMPLATE_PLAIN);
    assert_int_equal(ask(t, "[{\"role\": \"user\", \"content\": \"a\"}]", NULL, NULL, &out, &err), MOTE_OK);
    assert_string_equal(out.p, "User: a\nAssistant:");
    chat_text_free(&out);
    chat_template_close(&t);
}

static void a_template_tells_its_syntax(void **state) {
    (void)state;
    static const struct {
        const char *source;
        chat_tool_syntax tools;
        const char *open;
    } cases[] = {
        {"{{ '<think>' }}{{ '</think>' }}{{ '<tool_call>' }}", CHAT_TOOLS_TAGGED, "<think>"},
        {"[TOOL_CALLS]", CHAT_TOOLS_MISTRAL, NULL}, {"<|channel|>", CHAT_TOOLS_HARMONY, NULL},
        {"{{ tools }}\"parameters\"", CHAT_TOOLS_JSON, NULL}, {"<function=x>", CHAT_TOOLS_FUNCTION, NULL}, {"x", CHAT_TOOLS_NONE, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        chat_template *t = open_template(cases[i].source, NULL);
        chat_syntax s = chat_template_syntax(t);
        assert_int_equal(s.tools, cases[i].tools);
        if (cases[i].open) assert_string_equal(s.think_open, cases[i].open);
        else assert_null(s.think_open);
        chat_template_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_apart),
        cmocka_unit_test(a_long_call_is_linear),
        cmocka_unit_test(requests_are_checked_and_rendered),
        cmocka_unit_test(a_model_without_a_template_gets_one),
        cmocka_unit_test(a_template_tells_its_syntax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
