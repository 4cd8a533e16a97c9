/* eval_language.c: sentences, words in capitals, and the language of a text, without models: rules and short lists. */
#include "run/eval_int.h"

#include <string.h>
#include <utf8proc.h>

/* ---- sentences ---- */
static const char *const abbreviations[] = {"mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "inc", "ltd", "co", "e.g", "i.e", "no", "fig", "gen", "rev", "capt"};

static bool is_abbreviation(str word) {
    if (word.n == 1 && word.p[0] >= 'A' && word.p[0] <= 'Z') return true; /* an initial */
    for (size_t i = 0; i < COUNT_OF(abbreviations); i++)
        if (word.n == strlen(abbreviations[i]) && strncasecmp(word.p, abbreviations[i], word.n) == 0) return true;
    return false;
}

/* A sentence ends with . ! or ? (and quotes or brackets behind it) before white space, but for abbreviations and where a small letter
 * follows. */
size_t eval_sentences(str text) {
    size_t n = 0, begun = 0;
    text = py_strip(text);
    for (size_t i = 0, word = 0; i < text.n; i++) {
        char c = text.p[i];
        bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
        if (space) {
            word = i + 1;
            continue;
        }
        begun = 1;
        if (c != '.' && c != '!' && c != '?') continue;
        size_t end = i + 1;
        while (end < text.n && strchr(".!?\"')]", text.p[end])) end++;
        if (end < text.n && !strchr(" \n\t\r", text.p[end])) continue;
        size_t next = end;
        while (next < text.n && strchr(" \n\t\r", text.p[next])) next++;
        bool small = next < text.n && text.p[next] >= 'a' && text.p[next] <= 'z';
        if (c == '.' && (small || is_abbreviation(str_sub(text, word, i - word)))) continue;
        n++;
        begun = 0;
        i = end - 1;
        word = next;
    }
    return n + begun;
}

/* ---- case ---- */
static int case_of(uint32_t cp) { /* 1 upper, -1 lower, 0 neither */
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU: return 1;
    case UTF8PROC_CATEGORY_LL: return -1;
    default: return 0;
    }
}

bool eval_has_case(str text, bool upper) {
    bool any = false;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        i += utf8_decode(text.p + i, text.n - i, &cp);
        int c = cp == UTF8_BAD ? 0 : case_of(cp);
        if (c == (upper ? -1 : 1)) return false;
        any |= c != 0;
    }
    return any;
}

/* Words as the Treebank tokenizer cuts them: at white space and punctuation, hyphens kept, what follows an apostrophe by itself. */
size_t eval_capital_words(str text) {
    size_t n = 0;
    for (size_t i = 0; i < text.n;) {
        while (i < text.n && strchr(" \n\t\r.,;:?!()[]{}<>\"*`#$%&@", text.p[i])) i++;
        size_t from = i;
        while (i < text.n && !strchr(" \n\t\r,;:?!()[]{}<>\"*`#$%&@", text.p[i]) && !(text.p[i] == '\'' && i > from)) i++;
        n += i > from && eval_has_case(str_sub(text, from, i - from), true);
        if (i == from && i < text.n) i++;
    }
    return n;
}

/* ---- languages ---- */
/* Scripts that mean one language (or a few, told apart by words). */
static const struct {
    uint32_t from, to;
    const char *codes;
} scripts[] = {
    {0x0370, 0x03ff, "el"}, {0x0400, 0x04ff, "ru uk bg"}, {0x0590, 0x05ff, "he"}, {0x0600, 0x06ff, "ar fa ur"}, {0x0900, 0x097f, "hi mr ne"},
    {0x0980, 0x09ff, "bn"}, {0x0a00, 0x0a7f, "pa"}, {0x0a80, 0x0aff, "gu"}, {0x0b80, 0x0bff, "ta"}, {0x0c00, 0x0c7f, "te"}, {0x0c80, 0x0cff, "kn"},
    {0x0d00, 0x0d7f, "ml"}, {0x0e00, 0x0e7f, "th"}, {0x3040, 0x30ff, "ja"}, {0x4e00, 0x9fff, "zh"}, {0xac00, 0xd7af, "ko"},
};
/* The commonest words that tell languages of one script apart. */
static const struct {
    const char *code, *words;
} common[] = {
    {"en", " the of and to in is that it for was on are with as be this you your have not from by at or we can will "},
    {"de", " der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er "},
    {"fr", " de la le et les des en un une du dans que est pour qui par sur au plus pas ne se ce il vous nous avec "},
    {"es", " de la que el en y a los del se las por un para con no una su al lo como más o pero sus es "},
    {"it", " di e che la il un a per è una in sono non si da con del le i ma come alla nel gli della anche "},
    {"pt", " de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele "},
    {"nl", " de het een van en in is dat op te zijn met voor niet aan er om ook als dan maar bij door "},
    {"sv", " och i att det som en på är av för med till den har de inte om ett han men var jag "},
    {"fi", " ja on ei se että hän oli joka mutta niin kun ovat myös tai kuin sen olla mitä ole voi "},
    {"pl", " w i na z do nie się że to jest o jak a po od za przez co dla tym ale są tak czy "},
    {"vi", " và của là có được cho không một trong các với người này đã những để khi đến tôi bạn "},
    {"sw", " ya na wa kwa ni katika la za cha kuwa hii au kama yake pia hiyo kutoka watu zaidi "},
    {"tr", " ve bir bu da de için ile olarak çok daha olan gibi en kadar sonra ne var "},
    {"ru", " и в не на что я с он как это по но они мы все она так его за был "}, {"uk", " і в не на що з та як це до є для він але у від ми або їх "},
    {"bg", " и на за да се в от не са с по че ще като това или при във той "}, {"ar", " في من على إلى أن هذا التي ما عن مع كان لا هو أو الذي "},
    {"fa", " و در به از که این را با است برای آن یک می بر تا های "}, {"ur", " کے میں کی ہے اور سے کا کو نے ہیں پر یہ کہ بھی "},
    {"hi", " के में है की और से को का हैं पर यह कि एक भी लिए "}, {"mr", " आहे आणि या च्या मध्ये आहेत हे की ते साठी एक "}, {"ne", " छ र को मा हो यो पनि छन् लागि गर्न एक भएको "},
};

static size_t hits(str text, const char *words) {
    size_t n = 0;
    char padded[48];
    for (size_t i = 0; i < text.n;) {
        while (i < text.n && (unsigned char)text.p[i] < 0x80 && !((text.p[i] | 32) >= 'a' && (text.p[i] | 32) <= 'z')) i++;
        size_t from = i;
        while (i < text.n && ((unsigned char)text.p[i] >= 0x80 || ((text.p[i] | 32) >= 'a' && (text.p[i] | 32) <= 'z'))) i++;
        if (i == from || i - from > sizeof padded - 3) continue;
        (void)snprintf(padded, sizeof padded, " %.*s ", (int)(i - from), text.p + from);
        n += strstr(words, padded) != NULL;
    }
    return n;
}

static bool lists(const char *codes, const char *code) {
    size_t n = strlen(code);
    for (const char *p = codes; (p = strstr(p, code)); p += n)
        if ((p == codes || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    return false;
}

bool eval_language_is(str text, const char *code) {
    size_t of[COUNT_OF(scripts)] = {0}, latin = 0, most = 0, best_hits = 0;
    const char *codes = NULL, *best = NULL;
    for (size_t i = 0; i < text.n;) {
        uint32_t cp;
        i += utf8_decode(text.p + i, text.n - i, &cp);
        latin += cp < 0x250 && (case_of(cp) != 0);
        for (size_t k = 0; k < COUNT_OF(scripts); k++) of[k] += cp >= scripts[k].from && cp <= scripts[k].to;
    }
    for (size_t k = 0; k < COUNT_OF(scripts); k++)
        if (of[k] > most) {
            most = of[k];
            codes = scripts[k].codes;
        }
    if (most == 0 && latin == 0) return true; /* nothing to tell by: counts as followed, as there */
    if (latin > most) codes = "en de fr es it pt nl sv fi pl vi sw tr";
    if (!lists(codes, code)) return false;
    if (!strchr(codes, ' ')) return true;
    buf small;
    buf_init(&small, (size_t)64 << 20);
    py_lower(&small, text);
    for (size_t i = 0; i < COUNT_OF(common); i++) {
        size_t n = lists(codes, common[i].code) ? hits(buf_str(&small), common[i].words) : 0;
        if (n > best_hits) {
            best_hits = n;
            best = common[i].code;
        }
    }
    buf_free(&small);
    return best ? strcmp(best, code) == 0 : lists("en ru ar hi", code);
}
