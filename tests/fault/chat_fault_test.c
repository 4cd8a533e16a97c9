/* chat_fault_test.c: opening a chat template, rendering a conversation with tools and taking an answer apart,
 * with the n-th allocation failing, once and from then on, for every n until all succeeds: a clean status and
 * no leak. */
#include "fault.h"

#include "chat/chat.h"

#include <stdio.h>

static const char template_text[] =
    "{%- macro one(t) -%}{{ t | tojson(indent=2) }}{%- endmacro -%}{{ bos_token }}"
    "{% for m in messages if m.role != 'x' %}{% set c = m.content if m.content is string else "
    "m.content|map(attribute='text')|join %}"
    "<|{{ m.role }}|>{{ c|trim|replace('a', 'b') ~ '{:>5}'.format(loop.index) }}{% for p in c.split(' ') "
    "%}{{ p|upper }}{% endfor %}"
    "{% endfor %}{% for t in tools|sort(attribute='n') %}{{ one(t) }}{% endfor %}{{ strftime_now('%Y') }}";
static const char answer[] = "<think>because</think>So: <tool_call>{\"name\": \"f\", \"arguments\": {\"a\": "
                             "1}}</tool_call><tool_call>f<arg_key>k</arg_key>"
                             "<arg_value>v</arg_value></tool_call>";

static mote_status ignore(void *ctx, const chat_event *e, mote_error *err) {
    (void)ctx;
    (void)e;
    (void)err;
    return MOTE_OK;
}

static mote_status take_apart(const chat_template *t, mote_error *err) {
    chat_syntax s = chat_template_syntax(t);
    chat_parser *p = NULL;
    mote_status st;
    s = (chat_syntax){CHAT_TOOLS_TAGGED, "<think>", "</think>"};
    TRYG(st, chat_parser_open(&p, &s, STR(""), true, ignore, NULL, err));
    for (size_t i = 0; i < sizeof answer - 1; i += 7)
        TRYG(st, chat_parser_put(p, (str){answer + i, MIN(7, sizeof answer - 1 - i)}, err));
    st = chat_parser_end(p, err);
out:
    chat_parser_close(&p);
    return st;
}

static mote_status everything(mote_error *err) {
    chat_template *t = NULL;
    chat_text out = {0};
    chat_template_source src = {
        .text = STR(template_text), .tool_use = STR(template_text), .bos_token = STR("<s>")};
    chat_request r = {.add_generation_prompt = true, .enable_thinking = 1};
    mote_status s;
    TRYG(s, json_parse(&r.messages,
                       STR("[{\"role\": \"user\", \"content\": \"a b c\"}, {\"role\": \"user\", \"content\": "
                           "[{\"type\": \"text\", \"text\": \"d\"}]}]"),
                       "m", err));
    TRYG(s, json_parse(&r.tools, STR("[{\"n\": 2, \"x\": {\"y\": [1, 2.5, null]}}, {\"n\": 1}]"), "t", err));
    TRYG(s, chat_template_open(&t, &src, err));
    TRYG(s, chat_template_render(t, &r, &out, err));
    s = take_apart(t, err);
out:
    chat_text_free(&out);
    chat_template_close(&t);
    json_decref(r.messages);
    json_decref(r.tools);
    return s;
}

static int torture(bool sticky) {
    for (size_t n = 1;; n++) {
        mote_error err = {0};
        size_t before = fault_live();
        fault_arm(FAULT_ALLOC, n, sticky);
        mote_status s = everything(&err);
        fault_disarm();
        const char *wrong = NULL;
        if (fault_live() != before) wrong = "a leak";
        else if (!fault_happened() && s != MOTE_OK) wrong = "an error though nothing failed";
        else if (s != MOTE_OK && (!err.message[0] || err.code != s)) wrong = "no message";
        if (wrong) {
            printf("allocation %zu%s: %s (%s)\n", n, sticky ? " and all after it" : "", wrong, err.message);
            return 1;
        }
        if (!fault_happened()) {
            printf("%zu allocations failed one by one%s\n", n - 1, sticky ? ", with all after them" : "");
            return 0;
        }
    }
}

int main(void) {
    mote_error err;
    fault_init();
    if (everything(&err) != MOTE_OK) {
        printf("%s\n", err.message);
        return 1;
    }
    return torture(false) | torture(true);
}
