# %% [markdown]
r"""
# Excursion x2 · A sentence becomes a face

"A grey-haired person with glasses on a pink background": type it, and there are eight of them. This excursion takes the machine apart that does so, and it is the machine of CLIP, Stable Diffusion, Imagen and DALL-E 2, each at the scale of a laptop.

It can also do what the large ones cannot: **measure whether the picture obeys the sentence.** Every ToyFace knows what it is, a classifier reads what was drawn, and so "with glasses" is right or wrong, and counted. Some combinations and some wordings were kept out of all training, so that you can see what is understood and what is only remembered.

You need chapter 7, and with it chapters 4 to 6. In this excursion you will

1. turn sentences into numbers, and learn pieces of words by byte-pair encoding;
2. write CLIP's loss and train two encoders to agree; search pictures by sentence;
3. read attributes off pictures with nothing but sentences, and see what that reader is blind to;
4. write cross-attention, put it into a trained Transformer, and watch which place looks at which word;
5. measure obedience: with guidance from 0 to 8, in combinations and in words that are new;
6. take DALL-E 2's detour: variations of a face, and the way from one sentence to another;
7. say in plain words what such data and such filters do at scale.
"""

# %%
import collections
import statistics
import textwrap

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

import minigen
from minigen import check, clip, ddpm, latents, ode, unclip
from minigen import text_to_image as t2i
from minigen.captions import COMBINATIONS, captions, in_combination
from minigen.checks import yours
from minigen.common import one_cycle
from minigen.data import ATTRIBUTES, ToyFaces, draw_faces
from minigen.data.toyfaces import labels_of
from minigen.ddim import slerp
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE
from minigen.metrics import (
    attribute_classifier,
    predict_attributes,
    results_table,
    toy_frechet,
)
from minigen.paper import reproduce, sentences
from minigen.plots import COLOURS, curves, heat, image_grid, legend, panels, show
from minigen.prompts import VOCABULARY, labels_told, read, tokenise, words_of
from minigen.widgets import explore

# %%
scale, _ = minigen.setup()
size = {
    "small": dict(clip_steps=260, mouth_steps=200, clip_width=24, merges=60, drawn=128),
    "full": dict(clip_steps=2000, mouth_steps=400, clip_width=32, merges=200, drawn=1000),
}[scale]
print(f"scale: {scale}; everything here runs on the processor")

# %% [markdown]
r"""
Here is where it goes: four sentences, and what the network of this excursion draws for them.
"""

# %% tags=["nbval-ignore-output"]
tokenizer = load_weights(IVQVAE, "ivqvae")
net = load_weights(t2i.TextFFTD, "text_fftd")
PROMPTS = ["a grey-haired person with glasses on a pink background",
           "a smiling person with short red hair, wearing glasses",
           "blue background, green shirt",
           "a sad face"]


def faces_for(prompts, each=1, **how):
    """`each` faces for every prompt."""
    return t2i.draw(net, tokenizer, [p for p in prompts for _ in range(each)], **how)


show(image_grid(faces_for(PROMPTS, each=8), columns=8),
     """Eight faces for each of four sentences, a sentence a row: grey hair, glasses and pink;
     red hair, short, a smile, glasses; a blue background and a green shirt, the rest by
     chance; sad faces of all kinds.""")
for k, prompt in enumerate(PROMPTS, 1):
    print(f"row {k}: {prompt}")

# %% [markdown]
r"""
## 1. Sentences

*25 minutes.*

Where do the sentences come from? Web pictures come with the text beside them, millions of them, of every quality. ToyFaces come with labels, and a small grammar makes sentences of these: any part of the nine attributes, synonyms, word orders. Nothing is ever denied: a face without glasses is one whose caption does not speak of glasses. That is how people write, too; nobody captions a photograph "no elephant", and section 4 will show what follows.
"""

# %%
faces = ToyFaces(20_000, seed=0)
for text in captions(faces.labels[:8], seed=1):
    print(textwrap.fill(f"· {text}", 90, subsequent_indent="  "))

# %% [markdown]
r"""
Two kinds are held out from all training, and we shall come back to them:

- four **combinations**: no face that has one was ever shown, though each of its parts was, often;
- three **wordings**: "whose hair is …", "who wears glasses", and "on a … background, a person …". Each word in them is known from elsewhere.
"""

# %%
for k, combination in enumerate(COMBINATIONS):
    share = float(in_combination(faces.labels, k).float().mean())
    print(f"{share:5.1%} of faces:", ", ".join(f"{a} {v}" for a, v in combination.items()))
print()
for text in captions(faces.labels[12:15], seed=3, phrasing="new"):
    print(textwrap.fill(f"· {text}", 90, subsequent_indent="  "))

# %% [markdown]
r"""
A network takes numbers. The simplest tokeniser gives each **word** a number; a start and an end frame the sentence, and the shorter ones are filled up with zeros. It knows the words it knows, and says so.
"""

# %%
ids = tokenise(["a red-haired face", "blue background, green shirt, glasses"])
print(ids)
print(words_of(ids[0]))
print(f"{len(VOCABULARY)} tokens, the first of them {', '.join(VOCABULARY[:6])}")
for prompt in ("a person with spectacles", "a person without glasses",
               "a person with red hair and grey hair", "a person with blue hair"):
    try:
        read(prompt)
    except ValueError as e:
        print(f"\n{prompt}:")
        print(textwrap.indent(textwrap.fill(str(e), 86), "    "))

# %% [markdown]
r"""
A hundred words do for a grammar. For the web they do not: a vocabulary of whole words would be endless, and still lack the next misspelling. So the large models cut words into **pieces**, by **byte-pair encoding** (Sennrich et al. 2016; CLIP has 49,152 pieces): begin with single letters; find the pair of neighbours that is most frequent in the text; make it one symbol; repeat. Frequent words become one piece, rare ones a few, and nothing is ever unknown.

### Exercise x2.1 · `bpe_step` · ★★ · 12 minutes

Write one merge. `words` is a dict: a word as a tuple of symbols, and how often it occurs. Count every pair of neighbouring symbols (a word that occurs 5 times counts 5 times), take the most frequent pair (among equals the first in alphabetical order), and return it, with a new dict in which every occurrence, from left to right, has become one symbol.

<details><summary>Hint</summary>

`word[i : i + 2]` is a pair, again a tuple; a dict counts, with `counts.get(pair, 0) + n`. For the order among equals: `min` over the pairs by the key `(-count, pair)`. To merge a word, walk through it with `while`, and take one step or two.

</details>
"""

# %%
def bpe_step(words):
    """One merge: the most frequent pair, and the words with it merged.

    words: {tuple of symbols: count} -> (pair, {tuple of symbols: count}).
    """
    ### BEGIN SOLUTION
    counts = {}
    for word, n in words.items():
        for i in range(len(word) - 1):
            counts[word[i : i + 2]] = counts.get(word[i : i + 2], 0) + n
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    merged = {}
    for word, n in words.items():
        new, i = [], 0
        while i < len(word):
            step = 2 if word[i : i + 2] == best else 1
            new.append("".join(word[i : i + step]))
            i += step
        merged[tuple(new)] = n
    return best, merged
    ### END SOLUTION

# %% points=2
check(bpe_step)

# %%
bpe_step = yours(bpe_step)
texts = captions(faces.labels[:2000], seed=2)
count = collections.Counter(w for t in texts for w in words_of(tokenise([t])[0])[1:-1])
words, merges, lengths = {tuple(w): n for w, n in count.items()}, [], []
for _ in range(size["merges"]):
    lengths.append(sum(len(w) * n for w, n in words.items()) / len(texts))
    pair, words = bpe_step(words)
    merges.append(pair)


def pieces(word):
    """A new word in pieces: the same merges, in the same order."""
    parts = list(word)
    for pair in merges:
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == pair:
                parts[i : i + 2] = ["".join(pair)]
            i += 1
    return parts


print("the first merges:", " ".join("".join(pair) for pair in merges[:20]))
for word in ("background", "glasses", "emerald", "grandmother"):
    print(f"{word:<12}", " · ".join(pieces(word)))
show(curves({"symbols a caption": lengths}, xlabel="merges", ylabel="symbols"),
     """Symbols that a caption takes, over the number of merges: from 46 letters down to half as
     many, more steeply at first.""")

# %% [markdown]
r"""
"grandmother" is in no caption, and is told all the same, in small pieces: that is the point. (Sixty merges are few: "glasses" is not yet whole, though frequent.) From here on we keep to whole words.

## 2. Two encoders that agree: CLIP

*40 minutes.*

CLIP (Radford et al. 2021) has two networks. One turns a picture into a vector of length 1, the other a sentence. Nothing says what the vectors should be; only that a picture and its own sentence point the same way, and a picture and somebody else's sentence do not. In a batch of N pairs that is a puzzle with N² cosines: for each picture, which of the N sentences is its own? And for each sentence, which picture? Both are classifications with N classes, so the loss is a cross-entropy, twice:

$$L = \frac{1}{2N} \sum_k \left[ -\log \frac{e^{s\, u_k \cdot v_k}}{\sum_j e^{s\, u_k \cdot v_j}} \; - \; \log \frac{e^{s\, u_k \cdot v_k}}{\sum_j e^{s\, u_j \cdot v_k}} \right]$$

with $u$ for pictures and $v$ for sentences. Cosines lie between −1 and 1, and a softmax of such small numbers is nearly flat. So they are multiplied by a scale $s$, the inverse of a temperature, and the scale is learned, up to 100.

### Exercise x2.2 · `info_nce` · ★★ · 10 minutes

Write the loss. `u` and `v` come as the encoders make them, of any length: bring each row to length 1 first.

<details><summary>Hint</summary>

`F.normalize(u, dim=1)`, then one matrix product gives all N² logits. Row k's right class is k, so the labels are `torch.arange(N)`. And the other classification reads the same matrix by columns.

</details>
"""

# %%
def info_nce(u, v, scale):
    """CLIP's loss: the mean of two cross-entropies. Shapes: u, v (N, D) -> scalar."""
    ### BEGIN SOLUTION
    u, v = F.normalize(u, dim=1), F.normalize(v, dim=1)
    logits = scale * u @ v.T
    own = torch.arange(len(u), device=u.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    ### END SOLUTION

# %% points=2
check(info_nce)

# %% [markdown]
r"""
Now train with it: a small CLIP, on faces and a fresh caption for each. The text encoder is a Transformer of two layers in which each word sees the words before it; what its *end* token has gathered is the sentence's vector.

**Before you run the next cell:** at the start all cosines are chance. What is the loss of a batch of 96 then, about? (And what would it be if the network could only tell the background, one of six?)

<details><summary>Answer</summary>

log 96 = 4.6, that of guessing among 96. (A little more, since the cosines of an untrained network are not quite equal.) If only backgrounds are told apart, some 16 candidates remain: log 16 = 2.8. But a caption tells the background only in some of the cases, so it stays above that.

</details>
"""

# %% tags=["nbval-ignore-output"]
info_nce = yours(info_nce)


def trained(stream, steps, seed=0):
    """A small CLIP trained with your loss; its losses, and the scale after each step."""
    torch.manual_seed(seed)
    model, losses, scales = clip.CLIP(image_width=size["clip_width"]).train(), [], []
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    rate = one_cycle(optimiser, 2e-3, steps)
    for _ in tqdm(range(steps), desc="CLIP"):
        x, ids = next(stream)
        loss = info_nce(model.image(x), model.text(ids), model.scale())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
        scales.append(model.scale().item())
    return model.eval(), losses, scales


small, losses, scales = trained(clip.pair_batches(faces, batch_size=96), size["clip_steps"])
print(f"loss {losses[0]:.2f} at first, {statistics.mean(losses[-10:]):.2f} at the end; "
      f"scale {scales[0]:.1f}, then {scales[-1]:.1f}")

# %% [markdown]
r"""
### Exercise x2.3 · `recall_at_1` · ★ · 5 minutes

How good is the agreement? Take N pictures and their N sentences. For what share of the pictures is the nearest sentence its own?

<details><summary>Hint</summary>

Rows have length 1, so `u @ v.T` holds all cosines; row k's largest should be in column k.

</details>
"""

# %%
def recall_at_1(u, v):
    """Share of rows of u whose nearest row of v is their own. Shapes: u, v (N, D) -> float."""
    ### BEGIN SOLUTION
    nearest = (u @ v.T).argmax(1)
    return (nearest == torch.arange(len(u))).float().mean().item()
    ### END SOLUTION

# %% points=1
check(recall_at_1)

# %% tags=["nbval-ignore-output"]
recall_at_1 = yours(recall_at_1)
large = load_weights(clip.CLIP, "clip")
test = ToyFaces(256, seed=2)
asked = {"any part told": captions(test.labels, seed=3),
         "all told": captions(test.labels, seed=3, told=list(ATTRIBUTES))}
for name, model in (("yours", small), ("trained longer", large)):
    u = clip.embed_images(model, test.images())
    for kind, texts in asked.items():
        v = clip.embed_texts(model, texts)
        print(f"{name:<15} {kind:<14} sentence found {recall_at_1(u, v):6.1%}, "
              f"picture {recall_at_1(v, u):6.1%} (chance {1 / len(u):.1%})")

# %% [markdown]
r"""
Where a caption tells little, "a person in a blue shirt", dozens of the 256 pictures fit it, and nobody could do much better. (So the loss has a floor that no training goes through.) Where it tells all, nearly every picture is found.

Search is the first use: a sentence in, the nearest pictures out. Nobody has labelled these faces for it.
"""

# %% tags=["nbval-ignore-output"]
gallery = ToyFaces(2000, seed=11)
pictures = gallery.images()
u = clip.embed_images(large, pictures)
queries = ["a person with long silver hair and glasses", "a smiling person in a scarlet shirt",
           "a dark-skinned person on an azure background"]
found = [(u @ v).topk(8).indices for v in clip.embed_texts(large, queries)]
show(image_grid(torch.cat([pictures[k] for k in found]), columns=8),
     """The eight of 2,000 faces that are nearest to each of three sentences, a sentence a row.
     First long grey hair and glasses. Then red shirts, but most mouths frown. Then dark skin
     on light blue.""")
for k, q in enumerate(queries, 1):
    print(f"row {k}: {q}")

# %% [markdown]
r"""
Rows one and three are as asked. In the second all shirts are scarlet, and hardly anybody smiles. Keep that in mind.

## 3. Reading with sentences, and what this reader is blind to

*25 minutes.*

If a picture finds its sentence, sentences can *classify*: write one for each class, and take the nearest. That is CLIP's **zero-shot** classifier, and it was its sensation: no training on the classes at all. One wording may be a lucky or an unlucky one, so several are averaged.

### Exercise x2.4 · `read_by_sentences` · ★★ · 8 minutes

`u` holds the pictures' embeddings, `v` those of the sentences: K values of an attribute, each in W wordings. Average a value's wordings, bring the mean back to length 1, and answer the number of the nearest value for each picture.

<details><summary>Hint</summary>

`v` has shape (K, W, D): the mean over which axis leaves one vector a value? Why must it be normalised again: how long is the mean of two unit vectors that point apart?

</details>
"""

# %%
def read_by_sentences(u, v):
    """The value whose averaged sentences are nearest. Shapes: u (N, D), v (K, W, D) -> (N,)."""
    ### BEGIN SOLUTION
    centres = F.normalize(v.mean(1), dim=1)
    return (u @ centres.T).argmax(1)
    ### END SOLUTION

# %% points=2
check(read_by_sentences)

# %% tags=["nbval-ignore-output"]
read_by_sentences = yours(read_by_sentences)


def wordings(attribute, n=6):
    """For each value n captions that tell nothing but that: (K, n) sentences."""
    values, rows = ATTRIBUTES[attribute], torch.zeros(n, 9).long()
    column, told = list(ATTRIBUTES).index(attribute), []
    for k in range(len(values)):
        rows[:, column] = k
        told.append(captions(rows, seed=5, told=[attribute]))
    return told


def zero_shot(model, u, attribute):
    """Accuracy of reading an attribute of 2,000 faces, embedded as u, by sentences."""
    v = torch.stack([clip.embed_texts(model, texts) for texts in wordings(attribute)])
    return float((read_by_sentences(u, v) == gallery[attribute]).float().mean())


print("\n".join(wordings("smile")[2][:3]), "\n")
classifier, own = predict_attributes(pictures), clip.embed_images(small, pictures)
print(f"{'':<12} chance   yours   longer   classifier, trained on labels")
for name, values in ATTRIBUTES.items():
    right = float((classifier[name] == gallery[name]).float().mean())
    print(f"{name:<12} {1 / len(values):6.1%} {zero_shot(small, own, name):7.1%} "
          f"{zero_shot(large, u, name):8.1%} {right:12.1%}")

# %% [markdown]
r"""
Two lines stand out. Eyes and mouths are at chance, in a short training and in the longer one, though you see a smile at once. (What else is missing in the short one, the longer one has found.) Is the encoder of pictures too weak for it?

**Before you run the next cell:** it trains a fresh, small CLIP with captions that tell the mouth and nothing else. Will it read mouths?
"""

# %% tags=["nbval-ignore-output"]
mouths, _, _ = trained(clip.pair_batches(faces, batch_size=48, told=["smile"]),
                       size["mouth_steps"])
right = zero_shot(mouths, clip.embed_images(mouths, pictures), "smile")
print(f"told mouths alone, it reads the mouth in {right:.1%}\n")
three = clip.readings("smile")
print(f"cosine of the sentences '{three[0]}' and '{three[2]}':")
for name, model in (("yours", small), ("trained longer", large), ("mouths alone", mouths)):
    v = clip.embed_texts(model, three)
    print(f"    {name:<15} {float(v[0] @ v[2]):6.3f}")

# %% [markdown]
r"""
It can, and quickly. So the encoders are strong enough, and what is missing is a *reason*. InfoNCE asks for what tells the pairs of a batch apart, and for that backgrounds, hair and shirts nearly suffice; they are large, and come first. For the mouth, two must move at once. As long as a picture's vector says little of the mouth, whatever "smiling" and "frowning" do to a sentence's vector is noise, and is trained away: look at the cosine of the longer-trained one, to which the two sentences are as good as *the same*. And as long as the sentence's vector ignores the mouth, nothing rewards the picture's encoder for saying more of it. Each waits for the other, and the way out of there is slow.

Which of the two is blind? Ask the picture's vector directly, with a linear classifier that is given the labels.
"""

# %% tags=["nbval-ignore-output"]
def probe(u, y):
    """Accuracy of the best linear reading of labels y from vectors u, on the last 500."""
    inputs = torch.cat([u, torch.ones(len(u), 1)], 1)
    weights = torch.linalg.lstsq(inputs[:1500], F.one_hot(y[:1500]).float()).solution
    return float(((inputs[1500:] @ weights).argmax(1) == y[1500:]).float().mean())


torch.manual_seed(1)
untrained = clip.embed_images(clip.CLIP(), pictures)
for name in ("smile", "eyes", "hair"):
    print(f"{name:<6} read from the picture's vector: "
          f"untrained {probe(untrained, gallery[name]):5.1%}, "
          f"trained longer {probe(u, gallery[name]):6.1%}")

# %% [markdown]
r"""
The picture's vector holds a blurred trace of mouth and eyes; hardly more than an untrained network's, and nobody put it there. It is the *sentences* that have gone blind: no words reach that trace.

(We tried to wake them: 4,000 steps, in whose batches every fourth face had a twin that differed in one attribute only, and captions that told that and little else. Eyes and mouths stayed at chance. One training, but not a short one.)

The CLIP of OpenAI has blind spots of this kind, found by looking for pictures that people tell apart and CLIP does not (Tong et al. 2024): which way somebody looks, how many there are, whether a thing is there or not. Remember the two lines. Everything that stands on CLIP, a search, a score, a filter, a generator, inherits them, and you will meet them again.

## 4. The sentence enters the Transformer

*40 minutes.*

Chapter 7's network was told a hair colour by one vector, added to that of the time. A sentence could come in the same way: CLIP's vector of it, or that of its end token. But one vector must hold everything, and all sixteen tokens of the picture are moved by it alike.

**Cross-attention** (Rombach et al. 2022, Stable Diffusion) lets each place of the picture look at each *word*. It is attention as in chapter 4, but queries come from the picture, keys and values from the sentence:

$$Q = W_q\, x, \quad K = W_k\, c, \quad V = W_v\, c, \qquad x \leftarrow x + W_o\, \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V$$

with $x$ the picture's tokens and $c$ the text encoder's output at each word. A shorter sentence in the batch is filled up with padding, and padding must count for nothing: its weight is set to exactly zero, by a score of $-\infty$ before the softmax.

### Exercise x2.5 · `cross_attention` · ★★★ · 15 minutes

Write the middle of it, for several heads at once: from Q, K, V and the mask to the mixed values.

<details><summary>Hint</summary>

Scores: `q @ k.transpose(-1, -2)`, divided by the root of d, the last axis. The mask has shape (B, M), the scores (B, heads, L, M): give the mask two axes of length 1. `masked_fill` puts `-torch.inf` where there is no word; softmax over the words, the last axis.

</details>

<details><summary>Hint 2</summary>

`mask[:, None, None]` has shape (B, 1, 1, M) and broadcasts. Fill where the mask is **False**.

</details>
"""

# %%
def cross_attention(q, k, v, mask):
    """softmax(Q Kᵀ / √d) V, no weight on padding.

    Shapes: q (B, heads, L, d), k and v (B, heads, M, d), mask (B, M), True where there is a
    word -> (B, heads, L, d).
    """
    ### BEGIN SOLUTION
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    return scores.softmax(-1) @ v
    ### END SOLUTION

# %% points=3
check(cross_attention)

# %% [markdown]
r"""
Put it where it belongs. The network of the first figure, FFTD with a cross-attention before each of its five blocks, was trained longer than we can wait here; its attention is yours from the next cell on.
"""

# %% tags=["nbval-ignore-output"]
sentence = "a frowning person with long red hair in a green shirt on an azure background"
before = faces_for([sentence], each=8)
cross_attention = yours(cross_attention)
for block in net.blocks:
    block.cross.mix = cross_attention
after = faces_for([sentence], each=8)
show(image_grid(after, columns=8),
     """Eight faces drawn with your cross-attention: long red hair, a green shirt, an azure
     background, mouths turned down in some.""")
print(f"largest difference to the course's own: {float((before - after).abs().max()):.1e}")

# %% [markdown]
r"""
Now look inside. While the network makes one step, keep what each cross-attention was given; its weights say how much each of the sixteen places looks at each word.
"""

# %% tags=["nbval-ignore-output"]
def looks(prompt, t, z):
    """How much each place looks at each word, in the last block: (4, 4, words).

    The mean over heads and pictures.
    """
    kept = []
    layer = net.blocks[-1].cross
    hook = layer.register_forward_pre_hook(
        lambda layer, given: kept.append(layer.weights(*given).mean((0, 1))))
    with torch.no_grad():
        net(z, torch.tensor([t]), tokenise([prompt] * len(z)))
    hook.remove()
    return kept[0].unflatten(0, (4, 4))


noise = torch.randn(32, 4, 4, 4, generator=torch.Generator().manual_seed(1))
weights, names = looks(sentence, 950, noise), words_of(tokenise([sentence])[0])
shown = [k for k, word in enumerate(names)
         if word in ("<start>", "frowning", "red", "hair", "green", "shirt", "azure",
                     "background")]
fig, axes = panels(2, 4, height=1.5)
for ax, k in zip(axes.flat, shown, strict=True):
    heat(ax, weights[..., k], title=names[k])
show(fig, """How much each of 4×4 places looks at eight of the tokens, each on its own scale.
     "hair" is looked at from the top, up to 0.6 of all attention; "shirt" from the bottom,
     "frowning" from the middle rows, "background" and "azure" from the left and the top
     corner. "red" and "green" get little attention anywhere. The middle looks at the start
     as much as at "frowning".""")

# %% [markdown]
r"""
Nobody told the network where hair is. The places at the rim have found the word that concerns them: the top looks at "hair", the bottom row at "shirt", the corner at "background". The middle, where the mouth is, looks at "frowning" a little, and as much at the start, which says nothing: weights must sum to 1, and a place without a noun of its own leaves its attention there. (That is called an attention sink.)

But why does hardly anybody look at "red", if hair is to be red? Because the text encoder comes first, and in it each word has seen the words before it. What stands at "hair" is not *hair* but *a frowning person with long red hair*: the noun has gathered its adjectives, and the picture fetches both there. (So the map of a word is not the map of its meaning. Papers that read such maps in large models as "where the model looks" have the same trap before them.)

There are two camps about where the words' features come from. **Stable Diffusion** takes CLIP's text encoder, trained before and frozen. **GLIDE** learns one together with the denoiser, and **Imagen** takes a frozen language model that has never seen a picture. And there are two ways in, one vector or the words. Three small networks of width 64, 2,000 steps each, three seeds:
"""

# %%
cells = reproduce.read("sentences")
KINDS = ("seen", "held_out", "new_words", "all_right", "frechet")


def measured(row, column, cells=cells):
    """The values of three seeds."""
    return [c[column] for seed in range(3) for c in cells
            if c["row"] == row and c["seed"] == seed]


rows = list(dict.fromkeys(c["row"] for c in cells))
untold = [c for c in reproduce.read("prompting") if c["row"] == "scale 0"]
print(f"{'mean of three seeds':<30}" + "".join(f"{k.replace('_', ' '):>11}" for k in KINDS))
for row in rows:
    means = [statistics.mean(measured(row, k)) for k in KINDS]
    print(f"{row:<30}" + "".join(f"{m:11.3f}" for m in means[:-1]) + f"{means[-1]:11.1f}")
means = [statistics.mean(c[k] for c in untold) for k in KINDS]
print(f"{'not told at all, by chance':<30}" + "".join(f"{m:11.3f}" for m in means[:-1]) + "\n")
for a, b in ((1, 0), (2, 1)):
    print(f"{rows[a]}, more than {rows[b]}:")
    for k in ("seen", "held_out", "new_words"):
        d = [x - y for x, y in zip(measured(rows[a], k), measured(rows[b], k), strict=True)]
        mean, error = statistics.mean(d), statistics.stdev(d) / 3**0.5
        star = " *" if abs(mean) > 4.3 * error else ""
        print(f"    {k.replace('_', ' '):<10} {mean:+.3f} ± {error:.3f}{star}")

# %% [markdown]
r"""
The last column but one counts faces with nothing wrong; a quarter of the sentences tell nothing, and so cannot go wrong. As before, a star is a difference beyond 4.3 standard errors, which three seeds hardly give by chance. Four things, and none of them is what a poster would say.

- **A borrowed encoder brings the words along.** In 2,000 steps a network that must learn to read *and* to draw has learned next to no reading: 0.37 is little more than the 0.28 that come out by chance. With CLIP's encoder it is 0.82.
- **And it brings its blindness along.** With two of nine attributes at chance 0.84 is left, for these sentences. To that encoder "smiling" and "frowning" are nearly the same, and 2,000 steps do not find the little that is left of the difference.
- **Who reads less draws better.** The network that ignores its sentences has the smallest distance: it had only to draw.
- **One vector or the words: no difference.** Our sentences tell at most nine things, and 64 numbers hold nine things. Cross-attention pays where sentences are longer than a vector.

The network of the first figure has an encoder of its own too, but four times the steps of twice the batch, and more width. By then it reads, mouths included (with more faces to learn from, too). Which camp is right is a question of what you can afford, and of what the borrowed encoder was taught.

## 5. Does it obey?

*35 minutes.*

Not "does it look right", but: of everything the sentences said, what share does the classifier read in the pictures?

### Exercise x2.6 · `obeyed` · ★ · 6 minutes

`got` holds what the classifier read in N pictures, nine labels each; `want` what their sentences told, −1 where they told nothing. Return the share of what was told that came out.

<details><summary>Hint</summary>

What was told is `want >= 0`. Count what is told *and* right, and divide by the number of what was told.

</details>
"""

# %%
def obeyed(got, want):
    """Share of what was told that is there. Shapes: got, want (N, 9) integers -> float."""
    ### BEGIN SOLUTION
    told = want >= 0
    return float(((got == want) & told).sum() / told.sum())
    ### END SOLUTION

# %% points=1
check(obeyed)

# %% tags=["nbval-ignore-output"]
obeyed = yours(obeyed)
read_labels = attribute_classifier().predict
texts, _ = sentences.seen(size["drawn"], seed=1)
want = labels_told(texts)
drawn = {s: faces_for(texts, scale=s) for s in (0, 1, 2, 4)}
for s, x in drawn.items():
    print(f"guidance {s}: {obeyed(read_labels(x), want):6.1%} of what was told")
got, told = read_labels(drawn[2]), want >= 0
print("\nat guidance 2, each attribute where it was told:")
for k, name in enumerate(ATTRIBUTES):
    right = (got[:, k] == want[:, k])[told[:, k]].float().mean()
    print(f"    {name:<12} {float(right):6.1%}   ({int(told[:, k].sum())} sentences)")

# %% [markdown]
r"""
Nearly all of it comes out, and more with guidance. What is missed are eyes and, now and then, a mouth: small things again. The tokens can hold them (of 1,000 faces decoded from their tokens, 99.5 % keep their eyes, and as many their mouths); the network gets them wrong.

**Guidance** is chapter 6's: the network was shown no caption in 15 % of its training, so it can be asked with the sentence and without, and the difference exaggerated. The longer-trained network, 1,000 captions of each kind, three seeds:
"""

# %%
cells8 = reproduce.read("prompting")
at = [0, 1, 1.5, 2, 3, 5, 8]
fig, axes = panels(1, 3, height=2.6)
lines = {0: ("seen", "held_out", "new_words", "all_right"), 1: ("diversity", "clip"),
         2: ("frechet",)}
for ax, keys in zip(axes.flat, lines.values(), strict=True):
    for k, key in enumerate(keys):
        v = torch.tensor([measured(f"scale {s:g}", key, cells8) for s in at[1:]])   # (6, 3)
        name = key.replace("_", " ")
        ax.plot(at[1:], v.mean(1), color=COLOURS[k], marker="o", ms=3, label=name)
        ax.fill_between(at[1:], v.amin(1), v.amax(1), color=COLOURS[k], alpha=0.2)
    ax.set(xlabel="guidance", ylim=(0.92, 1) if "seen" in keys else (0, None))
    legend(ax)
nothing = statistics.mean(measured("scale 0", "seen", cells8))
print(f"at scale 0, told nothing: {nothing:.2f} of what was told comes out, by chance")
show(fig, """Over the guidance scale from 1 to 8, with the range of three seeds of drawing.
     Left: the shares of what was told that came out lie between 0.93 and 1, highest from 2
     to 5, and fall at 8; what was held out lies two to five hundredths lower. Middle: the
     diversity of eight faces of a sentence falls by a tenth; the CLIP score stays level.
     Right: the distance is 39 at 1 and 1.5, 54 at 5.""")

# %% [markdown]
r"""
At scale 1, the plain conditional model, nearly everything is obeyed already; a scale of 2 adds the last per cent, for the price of some variety. Beyond that only the price rises. Large models are usually asked at 5 to 10.

What was held out, wordings and combinations alike, has five to six times as many errors: 0.96 in place of 0.993 at scale 2. Each combination for itself, and two controls that training did have, the last one's eyes with other hair:
"""

# %% tags=["nbval-ignore-output"]
controls = [COMBINATIONS[3] | {"hair_length": "short"}, COMBINATIONS[3] | {"hair": "black"}]
for k, combination in enumerate([*COMBINATIONS, *controls]):
    rows = labels_of(**combination).expand(64, -1)
    asked_for = captions(rows, seed=k, told=list(combination))
    got, told = read_labels(faces_for(asked_for)), labels_told(asked_for)
    right = ((got == told) | (told < 0)).all(1)
    wrong = [name for j, name in enumerate(ATTRIBUTES)
             if name in combination and not bool((got[:, j] == told[:, j]).all())]
    print(f"{float(right.float().mean()):6.1%} all right:  {', '.join(combination.values())}"
          f"{'   missed: ' if wrong else ''}{', '.join(wrong)}")

# %% [markdown]
r"""
Three of the four are hardly more difficult than anything else. The fourth looks like just the failure that one expects: never seen together, so never drawn together. **But look at the two controls before you tell that story.** Green eyes with short blond hair, and with long black hair, were in training by the hundred, and fail about as often. Green eyes become brown ones, whatever the hair; the combination has little to do with it.

So new combinations cost little here, and no wonder: each attribute was drawn on its own, and all other pairs were seen, so the data say loudly that hair and eyes have nothing to do with each other. In pictures of the world they do, and what never occurs together may be learned as something that *cannot*. Whoever claims either of a model needs a control.


### What cannot be said

No caption denies anything, so no word for "no" was ever learned; asked for "a person without glasses", the tokeniser refuses. (Stable Diffusion does not refuse. It has read "without" so often beside the thing itself that it tends to draw the thing.) The way out is the **negative prompt**: guidance goes from the answer to nothing towards the answer to the prompt; let it go from the answer to "glasses" instead.

$$\hat\varepsilon = \varepsilon_{\text{negative}} + s\,(\varepsilon_{\text{prompt}} - \varepsilon_{\text{negative}})$$
"""

# %% tags=["nbval-ignore-output"]
plain = ["a smiling person with red hair"] * 64
column = list(ATTRIBUTES).index("glasses")
for negative in ("", "glasses"):
    x = faces_for(plain, scale=3, negative=negative)
    share = float((read_labels(x)[:, column] == 1).float().mean())
    print(f"negative prompt {negative!r:<10} glasses in {share:5.1%} of 64 pictures")
show(image_grid(torch.cat([faces_for(plain[:8], scale=3),
                           faces_for(plain[:8], scale=3, negative="glasses")]), columns=8,
                row_titles=["nothing", "glasses"]),
     """Eight smiling faces with red hair for the prompt alone, and the same noises with
     "glasses" for a negative prompt. Those with glasses have lost them; the others change
     little, the second has got longer hair.""")

# %% [markdown]
r"""
And what no face can be? `draw` refuses "a person with blue hair", as the reader of section 1 told you. But the network has no such scruple: it gets numbers, and both words are known. Hand them to it directly.

**Before you run the next cell:** hair was never blue, eyes and shirts and backgrounds were. What will it draw?
"""

# %% tags=["nbval-ignore-output"]
def unchecked(prompt, n=8, scale=3.0, seed=0):
    """Faces for a sentence that nobody has read."""
    model = t2i.Prompted(net, [prompt], scale)
    z = torch.randn(n, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    diffusion, first = ddpm.diffusion_of(model), torch.zeros(n).long()
    z = ode.multistep_sample(model, diffusion, z, first, steps=10)
    return latents.decode(tokenizer, ddpm.last(z))


strange = ["a person", "a person with blue hair", "a person with purple skin", "a red person",
           "a sad smiling person"]
show(image_grid(torch.cat([unchecked(p) for p in strange]), columns=8),
     """Eight faces for "a person", and for four sentences that no face can fit, from the same
     noises. Blue hair: the hair has its usual colours and all eyes are blue. Purple skin: no
     purple; skin is light brown in most. A red person: as in the first row. Sad and smiling:
     mouths of all three kinds.""")
for k, p in enumerate(strange, 1):
    got = read_labels(unchecked(p, n=64))
    blue, olive = (got[:, list(ATTRIBUTES).index(name)] == ATTRIBUTES[name].index(value)
                   for name, value in (("eyes", "blue"), ("skin", "olive")))
    print(f"row {k}: {p:<28} of 64: blue eyes {int(blue.sum())}, olive skin {int(olive.sum())}")

# %% [markdown]
r"""
Where "blue" cannot go, it goes to the eyes, in all of them: in training blue was said of eyes, shirts and walls, never of hair. That is called **attribute leakage**, and large models are known for it too. It is no law: purple skin does not turn shirts purple, it turns skin *olive*, more than twice as often as by chance. "Red" alone, which captions never said without its noun, does next to nothing. And "sad" with "smiling" gives sad, smiling and serious mouths.

No error, no warning: a network answers every sentence. This is why `minigen.prompts.read` stands before it.

### Which word belongs to which thing

"Blue eyes, green shirt" and "green eyes, blue shirt" have the same words. A reader who only counts words, a bag of words, cannot tell them apart, and CLIP was found to be nearly that (Yuksekgonul et al. 2023). Here it can be counted: for every pair of things that share colours, draw real faces of both kinds, and let CLIP choose between the right sentence and the swapped one; and let the generator draw both sentences, and the classifier read.
"""

# %% tags=["nbval-ignore-output"]
SWAPS = {"eyes and shirt": "a person with {} eyes in a {} shirt",
         "shirt and wall": "a person in a {} shirt in front of a {} wall",
         "eyes and wall": "a person with {} eyes in front of a {} wall"}


def swapped(pattern, n=64):
    """How often CLIP takes the right one of two sentences, and the generator has both right."""
    pair = [pattern.format("blue", "green"), pattern.format("green", "blue")]
    told, which = labels_told(pair), torch.arange(2).repeat_interleave(n)
    others = ToyFaces(2 * n, seed=31)
    rows = torch.where(told[which] >= 0, told[which], others.labels)
    chosen = clip.zero_shot(large, draw_faces(rows, others.jitter), pair)
    got = read_labels(faces_for(pair, each=n))
    both = ((got == told[which]) | (told[which] < 0)).all(1)
    return (chosen == which).float().mean().item(), both.float().mean().item()


print(f"{'blue and green':<16} CLIP takes the right sentence   the generator has both right")
for name, pattern in SWAPS.items():
    one, other = swapped(pattern)
    print(f"{name:<16} {one:19.1%} {other:28.1%}")

# %% [markdown]
r"""
CLIP takes the right sentence always, even where it does not see the eyes: the shirt alone decides, provided that "green" belongs to the shirt. So this one is no bag of words. Its captions name many things at once, and its batches are full of pictures that differ in which thing has which colour, so that order pays. (On web captions that seldom happens, and there the same loss leaves a bag of words.) The generator gets both right in nine cases of ten or more, and what it misses are eyes.

"""

# %% tags=["nbval-ignore-output"]
told_count, telling = want.ge(0).sum(1), want.ge(0).any(1)
score = {s: clip.clip_score(large, drawn[s], texts)[telling] for s in (0, 2)}
fig, axes = panels(1, 2, height=2.6)
for k, s in enumerate((0, 2)):
    right = ((read_labels(drawn[s]) == want) & (want >= 0)).sum(1) / told_count
    axes[0, 0].scatter(score[s], right[telling], s=5, color=COLOURS[k], label=f"guidance {s}")
axes[0, 0].set(xlabel="CLIP score", ylabel="share of what was told")
legend(axes[0, 0])
axes[0, 1].scatter(told_count[telling], score[2], s=5, color=COLOURS[1])
axes[0, 1].set(xlabel="attributes told", ylabel="CLIP score", ylim=(0, 1))
show(fig, """Faces drawn for sentences that tell something. Left: the share of a sentence
     that came out, over its CLIP score, for faces drawn blindly (guidance 0) and as told
     (guidance 2). The blind ones lie lower and mostly further left. Right: for those as
     told, the score rises with the number of attributes told, from about 0.45 to 0.75.""")
higher = float((score[2] > score[0]).float().mean())
print(f"for one sentence the obedient face has the higher score in {higher:.0%}")
mouth = list(ATTRIBUTES).index("smile")
rows = torch.where(want >= 0, want, ToyFaces(len(want), seed=61).labels)[want[:, mouth] >= 0]
wrong = rows.clone()
wrong[:, mouth] = (rows[:, mouth] + 1) % 3
said = [t for t, row in zip(texts, want, strict=True) if row[mouth] >= 0]
a, b = (clip.clip_score(large, draw_faces(r), said) for r in (rows, wrong))
print(f"a real face with the mouth as told beats the same with another in "
      f"{float((a > b).float().mean()):.0%} of {len(said)}")

# %% [markdown]
r"""
Of the *same* sentence, the score does prefer the picture that obeys to one drawn blindly. *Between* sentences it says little: it rises with the number of things told, since a short sentence fits everything and points nowhere in particular. So compare CLIP scores for the same sentences only. And what this CLIP does not see costs nothing: a face with the wrong mouth has as good a score as the right one. It is a fine measure of backgrounds.

## 6. DALL-E 2's detour

*30 minutes.*

DALL-E 2 (Ramesh et al. 2022) goes from the sentence to the picture in two steps. A **prior** draws, for CLIP's vector of the sentence, CLIP's vector of a *picture*; a **decoder** draws a picture for that. Why not decode the sentence's vector itself? Because the two do not lie in the same place: each sentence fits many pictures, and the cosines were only ever compared with each other.
"""

# %% tags=["nbval-ignore-output"]
prior = load_weights(unclip.Prior, "prior")
decoder = load_weights(unclip.EmbeddedFFTD, "unclip")
some = ToyFaces(500, seed=41)
told_all = captions(some.labels, seed=4, told=list(ATTRIBUTES))
u, v = clip.embed_images(large, some.images()), clip.embed_texts(large, told_all)
cosines = {"picture and its own sentence": (u * v).sum(1),
           "picture and another's sentence": (u * v.roll(1, 0)).sum(1),
           "two pictures": (u * u.roll(1, 0)).sum(1),
           "two sentences": (v * v.roll(1, 0)).sum(1)}
for name, c in cosines.items():
    print(f"{name:<32} cosine {float(c.mean()):5.2f} ± {float(c.std()):.2f}")
print(f"the two means point apart by a cosine of "
      f"{float(F.cosine_similarity(u.mean(0), v.mean(0), dim=0)):.2f}")

# %% [markdown]
r"""
A picture is far nearer to its own sentence, which tells all, than to another picture or another's sentence. That is all the loss asked for; it did not ask for 1, and 0.73 is not 1. Part of the rest is what no sentence tells. Part is common to all: the mean of the pictures and the mean of the sentences point *away* from each other, so that the two crowds lie in different regions. That is the **modality gap** (Liang et al. 2022). A decoder trained on pictures' vectors has seen nothing from over there.

### Exercise x2.7 · `prior_loss` · ★★ · 10 minutes

The prior is a diffusion over vectors, told the sentence's vector. It predicts neither ε nor v but the clean picture embedding itself: Ramesh et al. found that better. Write its loss: noise the picture's vector as in chapter 5, ask the prior with time and sentence, and compare its answer with the vector without noise.

<details><summary>Hint</summary>

$x = \sqrt{\bar\alpha_t}\; \text{image} + \sqrt{1 - \bar\alpha_t}\; \varepsilon$, with one $\bar\alpha_t$ for each row: `alpha_bar[t][:, None]`. It may be of another floating type than the vectors: `.to(image.dtype)`. The prior is asked as `prior(x, t, text)`.

</details>
"""

# %%
def prior_loss(prior, image, text, t, eps, alpha_bar):
    """Mean squared error of the prior's guess of the clean picture embedding.

    Shapes: image, text, eps (B, D), t (B,) integers, alpha_bar (T,) -> scalar.
    """
    ### BEGIN SOLUTION
    share = alpha_bar[t][:, None].to(image.dtype)
    x = share.sqrt() * image + (1 - share).sqrt() * eps
    return (prior(x, t, text) - image).square().mean()
    ### END SOLUTION

# %% points=2
check(prior_loss)

# %% tags=["nbval-ignore-output"]
prior_loss = yours(prior_loss)
alpha_bar = ddpm.diffusion_of(prior).alpha_bar
image, text = unclip.scaled(u), unclip.scaled(v)
dice = torch.Generator().manual_seed(2)
eps = torch.randn(image.shape, generator=dice)
for t in (50, 500, 950):
    at = torch.full((len(image),), t)
    with torch.no_grad():
        own = prior_loss(prior, image, text, at, eps, alpha_bar)
        other = prior_loss(prior, image, text.roll(1, 0), at, eps, alpha_bar)
    print(f"t = {t}: loss {float(own):.3f} with the own sentence, "
          f"{float(other):.3f} with another's")

# %% [markdown]
r"""
The more noise, the more hangs on the sentence: at t = 950 another's costs eighty times as much as the own; at t = 50 the picture's vector can still be read off, and the sentence hardly matters.

What is the detour good for? The decoder takes the vector of *any* picture, so a given face has **variations**: what CLIP saw in it is kept, what CLIP overlooked is drawn anew.
"""

# %% tags=["nbval-ignore-output"]
some_faces = some.images()
given = some_faces[[1, 4, 6]]
told = clip.embed_images(large, given)
varied = unclip.decoded(decoder, tokenizer, told.repeat_interleave(7, 0), seed=5)
rows = torch.cat([torch.cat([given[k : k + 1], varied[7 * k : 7 * k + 7]]) for k in range(3)])
show(image_grid(rows, columns=8),
     """Three given faces at the left, and seven variations of each. Hair, skin, shirt,
     background, glasses and pose stay as they are; mouths and eyes change.""")
redrawn = read_labels(unclip.decoded(decoder, tokenizer, u, seed=6))
print("kept in the variation of 500 faces:")
for k, name in enumerate(ATTRIBUTES):
    share = float((redrawn[:, k] == some.labels[:, k]).float().mean())
    print(f"    {name:<12} {share:6.1%}   (chance {1 / len(ATTRIBUTES[name]):.1%})")

# %% [markdown]
r"""
What CLIP reads, stays. Mouths and eyes are half kept, half drawn anew: the blurred trace in the picture's vector is worth that much, though no sentence can ask for it. Variations show, better than any score, what an encoder keeps of a picture.

And two sentences have a way between them: let the prior draw a picture's vector for each, and go from one to the other on the sphere, with the decoder's noise held fixed.
"""

# %% tags=["nbval-ignore-output"]
ends = ["a smiling person with long blond hair on a mint background",
        "a sad person with short black hair, wearing glasses, on a rose background"]
a, b = unclip.embeddings_of(prior, large, ends, seed=1).unsqueeze(1)
between = torch.cat([slerp(a, b, w) for w in torch.linspace(0, 1, 8).tolist()])
fixed = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(4))
fixed = fixed.expand(8, -1, -1, -1)
show(image_grid(unclip.decoded(decoder, tokenizer, between, noise=fixed), columns=8),
     """Eight faces on the way from long blond hair on mint to short black hair with glasses on
     rose. The ends are as asked, but for the mouths; the two in the middle are no whole faces,
     on speckled ground.""")

# %% [markdown]
r"""
Which way obeys better, the direct one or the detour? And what if the prior is left out, and the decoder is given the sentence's vector as if it were a picture's?
"""

# %% tags=["nbval-ignore-output"]
n = size["drawn"]
detour = unclip.decoded(decoder, tokenizer, unclip.embeddings_of(prior, large, texts))
short = unclip.decoded(decoder, tokenizer, clip.embed_texts(large, texts))
for name, x in (("direct, by words", drawn[2]), ("prior, then decoder", detour),
                ("decoder, the sentence's vector", short)):
    print(f"{name:<32} {obeyed(read_labels(x), want):6.1%} of what was told,"
          f"  toy Fréchet {toy_frechet(x):7.1f}")
real = toy_frechet(ToyFaces(n, seed=71).images())
print(f"as many real faces have a distance of {real:.1f} (so few give a large one)")

# %% [markdown]
r"""
The ends of the way are faces, its middle is not: half-way between two vectors that point far apart lies none that a picture ever had.

The detour obeys less: what CLIP's vectors do not hold gets lost on the way, and that is eyes and mouths once more. And without the prior, the sentence's vector taken for a picture's, colours still come out, but the pictures are broken: the distance is ten times larger. The gap is real. Stable Diffusion and Imagen go the direct way.

**Imagen** (Saharia et al. 2022) goes without any of this: words of a frozen language model, cross-attention, guidance, and then two more diffusions that enlarge the picture. Such a cascade is not built here.

## 7. Your own sentences

*As long as you like.*

Type a sentence and press Enter. What cannot be drawn is refused in a line below, with the way out.
"""

# %% tags=["nbval-ignore-output"]
def eight(prompt, negative, guidance, seed):
    """Eight faces for a sentence."""
    x = t2i.draw(net, tokenizer, [prompt] * 8, scale=guidance, negative=negative, seed=seed)
    return image_grid(x, columns=8)


explore(eight, eight(PROMPTS[0], "", 2.0, 0),
        """Eight faces with grey hair and glasses on a pink background. In a running notebook
        they follow the sentence that you type.""",
        prompt=PROMPTS[0], negative="", guidance=(0.0, 8.0, 2.0), seed=(0, 20, 0));

# %% [markdown]
r"""
From the command line the same is

`python -m minigen sample --prompt "a grey-haired person with glasses on a pink background"`

## 8. What such data and such filters do at scale

*10 minutes, and worth more.*

Everything in this excursion was made for it: faces drawn by code, sentences from a grammar. The [card of the data](../data/README.md) says how they are drawn, and that each value comes equally often. Hundreds of millions of pairs of picture and text from the web are another matter, and most of what goes wrong with such models was in the pairs before there was a model.

**Nobody asked.** The pictures are people's photographs, artists' drawings, patients' scans, taken with the text beside them from pages that were open. Consent was not asked, authors are not named, and taking a picture back out of a trained model is an unsolved problem. Chapter 8 shows that a model can return a training picture as it was. For your own project this is a decision, not a fate: ask for the licence of each source, write it down, keep a way to remove what somebody wants removed, and train again.

**What is usual becomes what is.** Ask a large model for "a doctor" or "a poor person", and it shows what stood beside such words on the web, and often more extremely so (Bianchi et al. 2023). Guidance makes this worse, by construction: it moves away from the average towards what is *typical* of the word. You have measured a small version of that, as diversity, which fell with every step of the scale, though here all values are equally frequent. Now think of "nurse" in the place of "red hair".

**The filter is a model, too.** The public sets were chosen *by CLIP*: pairs with a high score stay. So whatever CLIP overlooks, its filter overlooks: section 3 showed an attribute that everybody sees in the picture and that the reader did not see. Filters for nudity or violence work by the same cosines. They let abuse through (Birhane et al. 2021 found it in a filtered set), and they take out harmless pictures of people whose bodies, languages or lives are described with words that appear beside pornography. A number such as "99 % safe" says nothing before it says *for whom*.

**English is not the language of pictures.** The refusal "prompts are in English, of so many words" is honest and still a decision. So is a CLIP trained on English text, which is what most text-to-image models stand on.

What the course can do about it, it does in the small: a card that says what is in the data and what is not; combinations held out, and the failure on them counted; a prompt that is refused with a reason, and not silently guessed. Of a large model you may ask for the same.

## Summary

- A tokeniser makes numbers of a sentence: whole words where there are few, pieces by byte-pair encoding where there are many.
- CLIP's loss is a classification of pairs within a batch, by rows and by columns. It teaches what tells a batch apart, and no more.
- Sentences classify, search and score pictures. What the score has not learned to see, it cannot score.
- Cross-attention lets each place of a picture look at each word; padding gets no weight at all.
- Obedience can be counted: attribute by attribute, in combinations and wordings that training never had, beside controls. Guidance buys it with variety.
- Nothing in captions denies. A negative prompt is guidance away from a sentence.
- DALL-E 2's detour needs a prior, since a sentence's vector does not lie where pictures' vectors lie; it gives variations for it.
- Data has authors and subjects. A filter is a model with blind spots of its own.
"""

# %%
print(results_table(excursion="x2"))

# %%
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| caption | 图像描述 | a sentence about a picture |
| tokeniser | 分词器 | turns a sentence into numbers |
| byte-pair encoding | 字节对编码 | pieces of words, by merging frequent pairs |
| contrastive learning | 对比学习 | pulling what belongs together, pushing the rest apart |
| InfoNCE | InfoNCE 损失 | the classification of pairs within a batch |
| temperature | 温度 | the inverse of the scale of similarities |
| zero-shot | 零样本 | classes that are told by sentences alone |
| cross-attention | 交叉注意力 | queries from the picture, keys and values from the words |
| prompt | 提示词 | the sentence that is asked for |
| negative prompt | 负面提示词 | the sentence that guidance moves away from |
| compositionality | 组合性 | understanding new combinations of known parts |
| prior | 先验 | here: from a sentence's vector to a picture's |

### References

- Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*, [arXiv:2103.00020](https://arxiv.org/abs/2103.00020): CLIP.
- van den Oord, Li, Vinyals 2018, *Representation Learning with Contrastive Predictive Coding*, [arXiv:1807.03748](https://arxiv.org/abs/1807.03748): InfoNCE.
- Sennrich, Haddow, Birch 2016, *Neural Machine Translation of Rare Words with Subword Units*, [arXiv:1508.07909](https://arxiv.org/abs/1508.07909): byte-pair encoding.
- Rombach, Blattmann, Lorenz, Esser, Ommer 2022, *High-Resolution Image Synthesis with Latent Diffusion Models*, [arXiv:2112.10752](https://arxiv.org/abs/2112.10752): cross-attention, Stable Diffusion.
- Nichol et al. 2022, *GLIDE*, [arXiv:2112.10741](https://arxiv.org/abs/2112.10741): a text encoder learned with the denoiser.
- Saharia et al. 2022, *Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding*, [arXiv:2205.11487](https://arxiv.org/abs/2205.11487): Imagen.
- Ramesh, Dhariwal, Nichol, Chu, Chen 2022, *Hierarchical Text-Conditional Image Generation with CLIP Latents*, [arXiv:2204.06125](https://arxiv.org/abs/2204.06125): DALL-E 2.
- Ho, Salimans 2022, *Classifier-Free Diffusion Guidance*, [arXiv:2207.12598](https://arxiv.org/abs/2207.12598).
- Liu, Li, Du, Torralba, Tenenbaum 2022, *Compositional Visual Generation with Composable Diffusion Models*, [arXiv:2206.01714](https://arxiv.org/abs/2206.01714): negation by guidance.
- Tong, Liu, Zhai, Ma, LeCun, Xie 2024, *Eyes Wide Shut? Exploring the Visual Shortcomings of Multimodal LLMs*, [arXiv:2401.06209](https://arxiv.org/abs/2401.06209): what CLIP does not see.
- Yuksekgonul et al. 2023, *When and Why Vision-Language Models Behave like Bags-of-Words, and What to Do About It?*, [arXiv:2210.01936](https://arxiv.org/abs/2210.01936).
- Liang, Zhang, Kwon, Yeung, Zou 2022, *Mind the Gap*, [arXiv:2203.02053](https://arxiv.org/abs/2203.02053): pictures' and sentences' vectors lie apart.
- Hessel, Holtzman, Forbes, Le Bras, Choi 2021, *CLIPScore*, [arXiv:2104.08718](https://arxiv.org/abs/2104.08718).
- Birhane, Prabhu, Kahembwe 2021, *Multimodal datasets: misogyny, pornography, and malignant stereotypes*, [arXiv:2110.01963](https://arxiv.org/abs/2110.01963).
- Bianchi et al. 2023, *Easily Accessible Text-to-Image Generation Amplifies Demographic Stereotypes at Large Scale*, [arXiv:2211.03759](https://arxiv.org/abs/2211.03759).
"""
