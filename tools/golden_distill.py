#!/usr/bin/env python3
"""Prints the figures of tests/unit/distill_figures.h with PyTorch: losses of distillation and their gradients.

Each gradient g stands as one number, sum_i cos(i) g_i in row-major order. Inputs are sines, so that the test makes them itself."""
import math

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)


def wave(rows, cols, seed, by=1.0):
    return torch.tensor([by * math.sin(0.7 * i + seed) for i in range(rows * cols)]).float().double().reshape(rows, cols)


def mark(g):
    return sum(math.cos(i) * v for i, v in enumerate(g.reshape(-1).tolist()))


N, C, CT, V, VT = 6, 5, 7, 11, 13
TARGET = [3, -1, 0, 10, 5, 7]
WEIGHTS = [1, 1, 0.5, 2, 1, 0.25]
SAME = [-1 if i % 3 == 2 else 2 * i % 9 for i in range(VT)]  # tokens of both vocabularies; two of the teacher's may be one of the student's


def heads(softcap):
    h, w, b = wave(N, C, 0.1, 1.5).requires_grad_(), wave(V, C, 0.2).requires_grad_(), wave(1, V, 0.3).requires_grad_()
    z = h @ w.T + b
    z = 0.8 * z
    return (h, w, b), softcap * torch.tanh(z / softcap) if softcap else z


def divergence(kind, lq, lp, beta):
    q, p = lq.exp(), lp.exp()
    if kind == "forward":
        return (p * (lp - lq)).sum(-1)
    if kind == "reverse":
        return (q * (lq - lp)).sum(-1)
    if kind == "jsd":
        m = beta * p + (1 - beta) * q
        return (beta * p * (lp - m.log()) + (1 - beta) * q * (lq - m.log())).sum(-1)
    return sorted_gap(q, p)


def sorted_gap(q, p):
    n = max(q.shape[-1], p.shape[-1])
    sq = F.pad(q.sort(-1, descending=True)[0], (0, n - q.shape[-1]))
    sp = F.pad(p.sort(-1, descending=True)[0], (0, n - p.shape[-1]))
    return (sq - sp).abs().sum(-1)


def hybrid(lq, lp):
    q, p = lq.exp(), lp.exp()
    m = torch.zeros(N, V)
    ours, theirs = torch.ones(V, dtype=torch.bool), torch.ones(VT, dtype=torch.bool)
    for i, to in enumerate(SAME):
        if to >= 0:
            m[:, to] += p[:, i]
            ours[to] = theirs[i] = False
    rest_q, rest_p = q[:, ours].sum(-1), p[:, theirs].sum(-1)
    d = (m * (m.log() - lq))[:, ~ours].sum(-1) + rest_p * (rest_p / rest_q).log()
    return d + sorted_gap(q[:, ours], p[:, theirs])


def case(name, kind, T=1.0, weight=1.0, ce=0.0, beta=0.5, softcap=0.0, mapped=False, top=0):
    leaves, z = heads(softcap)
    n_teacher = VT if kind in ("sorted", "hybrid") or mapped else V
    zt = wave(N, CT, 0.4, 1.5) @ wave(n_teacher, CT, 0.5).T
    keep = torch.tensor([t >= 0 for t in TARGET])
    w = torch.tensor(WEIGHTS) * keep
    lq, lp, share = F.log_softmax(z / T, -1), F.log_softmax(zt / T, -1), torch.ones(N)
    if mapped:  # token i of the teacher is the student's (3 i) mod 12, where that is below 11
        p = torch.zeros(N, V)
        for i in range(VT):
            if 3 * i % 12 < V:
                p[:, 3 * i % 12] += lp[:, i].exp()
        share = p.sum(-1)
        lp = p.clamp_min(1e-30).log()
        lp = F.log_softmax(lp, -1)
    if top:
        logp, ids = lp.topk(top)
        rest = 1 - logp.exp().sum(-1)
        lqk = lq.gather(-1, ids)
        d = (logp.exp() * (logp - lqk)).sum(-1) + rest * (rest.log() - (1 - lqk.exp().sum(-1)).log())
    else:
        d = hybrid(lq, lp) if kind == "hybrid" else divergence(kind, lq, lp, beta)
    nll = F.cross_entropy(z, torch.tensor([max(t, 0) for t in TARGET]), reduction="none")
    loss = ((weight * T * T * share * d + ce * nll) * w).sum() / w.sum()
    loss.backward()
    kinds = {"forward": "DISTILL_FORWARD", "reverse": "DISTILL_REVERSE", "jsd": "DISTILL_JSD", "sorted": "DISTILL_SORTED", "hybrid": "DISTILL_HYBRID"}
    print('    {"%s", %s, %.1ff, %.1ff, %.1ff, %.1ff, %.1ff, %s, %d, %.9f, {%.9f, %.9f, %.9f}},' % (
        name, kinds[kind], beta, T, weight, ce, softcap, "true" if mapped else "false", top, loss.item(), *[mark(x.grad) for x in leaves]))


def relation(x, y, parts, causal, starts):
    loss = 0
    for a, b in zip(starts, starts[1:]):
        for h in range(parts):
            def log_relation(m):
                d = m.shape[1] // parts
                m = m[a:b, h * d:(h + 1) * d]
                s = m @ m.T / math.sqrt(d)
                return F.log_softmax(s.masked_fill(torch.ones(b - a, b - a).triu(1).bool(), -1e30), -1) if causal else F.log_softmax(s, -1)
            lq, lp = log_relation(x), log_relation(y)
            loss = loss + (lp.exp() * (lp - lq)).sum()
    return loss / (x.shape[0] * parts)


print("static const struct outcome_figure outcome_figures[] = {")
case("forward KL", "forward")
case("forward KL, T 2, with CE", "forward", 2, 0.7, 0.3)
case("reverse KL", "reverse")
case("reverse KL, T 3, with CE", "reverse", 3, 0.5, 0.5)
case("JSD 0.5", "jsd")
case("JSD 0.1, T 2", "jsd", 2, beta=0.1)
case("sorted (ULD)", "sorted", 1.5)
case("hybrid (GOLD)", "hybrid")
case("hybrid, T 2, with CE", "hybrid", 2, 0.6, 0.3)
case("forward KL, soft cap", "forward", softcap=2.0, ce=0.4)
case("forward KL, mapped vocabulary", "forward", 2, mapped=True)
case("reverse KL, mapped vocabulary", "reverse", 1, mapped=True)
case("top 4 and the rest", "forward", 2, top=4, ce=0.2)
case("cross-entropy alone", "forward", 1, 0.0, 1.0)
print("};\n\nstatic const struct inside_figure inside_figures[] = {")
for name, kind in (("MSE", "INSIDE_MSE"), ("cosine", "INSIDE_COSINE"), ("relation", "INSIDE_RELATION"), ("causal relation", "INSIDE_CAUSAL")):
    x, y = wave(7, 8, 0.6, 1.2).requires_grad_(), wave(7, 8 if "relation" not in name else 12, 0.9, 0.8)
    w = torch.tensor([1, 0, 2, 1, 0.5, 1, 1])
    if kind == "INSIDE_MSE":
        loss = (((x - y) ** 2).mean(-1) * w).sum() / w.sum()
    elif kind == "INSIDE_COSINE":
        loss = ((1 - F.cosine_similarity(x, y)) * w).sum() / w.sum()
    else:
        loss = relation(x, y, 2, kind == "INSIDE_CAUSAL", [0, 4, 7])
    loss.backward()
    print('    {"%s", %s, %.9f, %.9f},' % (name, kind, loss.item(), mark(x.grad)))
print("};")
