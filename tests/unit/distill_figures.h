/* distill_figures.h: PyTorch's figures for distill_test.c; made by tools/golden_distill.py. */
struct outcome_figure {
    const char *name;
    distill_kind kind;
    float beta, temperature, weight, ce, softcap;
    bool mapped;
    int top;
    double loss, marks[3]; /* of the gradients by hidden rows, head, bias */
};
enum inside_kind { INSIDE_MSE, INSIDE_COSINE, INSIDE_RELATION, INSIDE_CAUSAL };
struct inside_figure {
    const char *name;
    enum inside_kind kind;
    double loss, mark;
};

static const struct outcome_figure outcome_figures[] = {
    {"forward KL", DISTILL_FORWARD, 0.5f, 1.0f, 1.0f, 0.0f, 0.0f, false, 0, 1.124810632, {0.258744132, -1.043703879, -0.035054284}},
    {"forward KL, T 2, with CE", DISTILL_FORWARD, 0.5f, 2.0f, 0.7f, 0.3f, 0.0f, false, 0, 3.172597312, {0.545037526, -1.209501900, -0.004599265}},
    {"reverse KL", DISTILL_REVERSE, 0.5f, 1.0f, 1.0f, 0.0f, 0.0f, false, 0, 4.156288168, {-0.357220773, -3.019137931, 0.430640223}},
    {"reverse KL, T 3, with CE", DISTILL_REVERSE, 0.5f, 3.0f, 0.5f, 0.5f, 0.0f, false, 0, 5.776563802, {0.575029975, -1.265254939, 0.089660269}},
    {"JSD 0.5", DISTILL_JSD, 0.5f, 1.0f, 1.0f, 0.0f, 0.0f, false, 0, 0.257468459, {-0.001235418, -0.197439351, 0.018138601}},
    {"JSD 0.1, T 2", DISTILL_JSD, 0.1f, 2.0f, 1.0f, 0.0f, 0.0f, false, 0, 0.271920361, {0.049357809, -0.143702452, 0.001040574}},
    {"sorted (ULD)", DISTILL_SORTED, 0.5f, 1.5f, 1.0f, 0.0f, 0.0f, false, 0, 0.528907991, {0.262525551, 1.317658358, -0.031097664}},
    {"hybrid (GOLD)", DISTILL_HYBRID, 0.5f, 1.0f, 1.0f, 0.0f, 0.0f, false, 0, 3.152582603, {0.673231040, 0.697808559, -0.592415657}},
    {"hybrid, T 2, with CE", DISTILL_HYBRID, 0.5f, 2.0f, 0.6f, 0.3f, 0.0f, false, 0, 4.605384720, {0.670645421, 0.499619807, -0.513970749}},
    {"forward KL, soft cap", DISTILL_FORWARD, 0.5f, 1.0f, 1.0f, 0.4f, 2.0f, false, 0, 1.975566804, {0.200053497, -0.443167129, 0.081317913}},
    {"forward KL, mapped vocabulary", DISTILL_FORWARD, 0.5f, 2.0f, 1.0f, 0.0f, 0.0f, true, 0, 8.818361384, {1.992939580, -0.127197319, -0.576332082}},
    {"reverse KL, mapped vocabulary", DISTILL_REVERSE, 0.5f, 1.0f, 1.0f, 0.0f, 0.0f, true, 0, 41.936142799, {-4.917748663, -35.243697292, 2.438593898}},
    {"top 4 and the rest", DISTILL_FORWARD, 0.5f, 2.0f, 1.0f, 0.2f, 0.0f, false, 4, 3.006164883, {0.560403857, -1.588236342, -0.005949409}},
    {"cross-entropy alone", DISTILL_FORWARD, 0.5f, 1.0f, 0.0f, 1.0f, 0.0f, false, 0, 3.486692799, {0.287130072, 0.014458976, 0.015343017}},
};

static const struct inside_figure inside_figures[] = {
    {"MSE", INSIDE_MSE, 0.120086141, -0.058603348},
    {"cosine", INSIDE_COSINE, 0.045869816, -0.056044357},
    {"relation", INSIDE_RELATION, 0.224125410, -0.128087745},
    {"causal relation", INSIDE_CAUSAL, 0.122918662, -0.042001201},
};
