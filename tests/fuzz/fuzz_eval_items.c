/* fuzz_eval_items.c: any bytes as a file of a task's items: the first byte chooses CSV, or lines, an array, HellaSwag's text, by their
 * beginning. Every document is made an item of every task, and its answers are judged. */
#include "fuzz_files.h"
#include "run/eval_tasks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const eval_task *t, const json_t *doc) {
    eval_item it = {.doc = doc};
    arena a;
    arena_init(&a, (size_t)16 << 20);
    if (t->item && t->item(doc, &a, &it, NULL) == MOTE_OK) {
        if (t->kind == EVAL_CHOICE && (it.n == 0 || it.n > EVAL_CHOICES_MAX || it.gold >= it.n)) abort();
        if (t->judge) {
            static const char *const answers[] = {"", "The answer is 42.\n#### 42", "{\"a\": 1}"};
            for (size_t i = 0; i < COUNT_OF(answers); i++) {
                double values[MOTE_TASK_METRICS_MAX] = {0};
                json_t *details = json_object();
                (void)t->judge(&it, str_of(answers[i]), values, details, NULL);
                json_decref(details);
            }
        }
    }
    arena_free(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    json_t *docs = NULL, *doc;
    size_t i;
    if (!n) return 0;
    if (eval_read_docs(&docs, fuzz_file(data[0] & 1 ? "f.csv" : "f.jsonl", data + 1, n - 1), NULL) != MOTE_OK) return 0;
    json_array_foreach(docs, i, doc) {
        if (!json_is_object(doc)) abort();
        for (size_t t = 0; i < 8 && eval_task_at(t); t++) use(eval_task_at(t), doc);
    }
    json_decref(docs);
    return 0;
}
