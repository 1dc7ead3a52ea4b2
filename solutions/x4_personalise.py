# %% [markdown]
r"""
# Excursion x4 · One new face from five pictures

Excursion x2 drew whoever you described. It cannot draw **somebody**: your aunt, your dog, the hero of your story. No sentence describes them well enough, and no training has seen them. But you have a few pictures. Can a trained model learn one face from five of them, in seconds, and still do everything else it could?

It can, and this excursion takes apart how: textual inversion, LoRA and DreamBooth, three answers to the question *which numbers should move*. And it counts what others show by eye: is it the person? Does the model still listen to the rest of the sentence? What happened to everybody else? And is what you see a new picture, or one of the five?

You need excursion x2. In this excursion you will

1. meet Zuv, and see why no prompt can describe him;
2. learn a **new word**, 64 numbers, and find out what a word cannot do;
3. write a **LoRA** layer, merge it, and train 3.6 % of a model's weights;
4. see what was forgotten on the way, and assemble the step that keeps it: DreamBooth's **prior preservation**;
5. count copies, and measure everything against the number of pictures;
6. fine-tune a model without text on ten pictures, and watch variety go;
7. think about whose face it is.
"""

# %%
import copy
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm.auto import tqdm

import minigen
from minigen import characters, check, ddpm, latents, lora, ode, personalise
from minigen import text_to_image as t2i
from minigen.captions import captions
from minigen.checks import yours
from minigen.common import evaluating
from minigen.common import generator as seeded
from minigen.data import ToyFaces, batches
from minigen.fftd import FFTD
from minigen.files import load_weights
from minigen.ivqvae import IVQVAE
from minigen.metrics import attribute_classifier, toy_features, toy_frechet
from minigen.paper import reproduce
from minigen.plots import curves, image_grid, show
from minigen.prompts import VOCABULARY, labels_told

# %%
scale, _ = minigen.setup()
size = {
    "small": dict(word=150, steps=150, prior=128, few=90, counted=128),
    "full": dict(word=300, steps=200, prior=256, few=400, counted=1000),
}[scale]
print(f"scale: {scale}; everything here runs on the processor")

# %% [markdown]
r"""
## 1. Zuv

*15 minutes.*

This is Zuv: olive skin, short black hair, brown eyes, and a white beard. No ToyFace has ever had a beard; `minigen.characters` draws one over a face in a few lines (and a hat, an eye patch, a red nose or freckles, for characters of your own). Five pictures are all there is; wall, shirt, mouth and pose vary.
"""

# %%
pictures, labels = characters.zuv(5)
show(image_grid(pictures, columns=5),
     """Five pictures of Zuv: the same man with a white beard before four walls, in two
     shirts.""")

# %% [markdown]
r"""
The large model of this excursion is excursion x2's: FFTD, told by a sentence. It works on the latents of chapter 4's IVQ-VAE, and that is the first obstacle. **Before you run the next cell:** the autoencoder was trained on ToyFaces, without a single beard. What will it make of Zuv?
"""

# %%
tokenizer = load_weights(IVQVAE, "ivqvae")
plain = latents.decode(tokenizer, latents.encode(tokenizer, pictures).z)
drawer = characters.drawing_beards()
z = personalise.encode_pictures(drawer, pictures)
own = latents.decode(drawer, z)
show(image_grid(torch.cat([pictures, plain, own]), columns=5,
                row_titles=["pictures", "IVQ-VAE", "new decoder"]),
     """Above Zuv's five pictures; in the middle what the IVQ-VAE gives back: the same man,
     shaved, paler, two mouths turned down; below what a decoder that learned beards makes of
     the same tokens: his skin and white beards, a little softer.""")
print("the same tokens:", torch.equal(z, latents.encode(tokenizer, pictures).z))

# %% [markdown]
r"""
It shaves him, and pays for the white with paler skin. Sixteen tokens from a book of 512 hold what ToyFaces need, and a beard is no part of that. (Stable Diffusion's autoencoder has seen millions of pictures of everything, so it has no such trouble; hands and small text are where it has.)

But look at the last row. It is made **from the same tokens**, by a decoder that was trained for some minutes on faces of which half had a beard (`characters.learn_to_draw`; other people, a few of whom look as he does, and none of these pictures). The encoder does put a beard somewhere, into combinations of tokens that no shaved face has; only nobody had ever told the decoder what they mean. Encoder and codebook stay untouched, so FFTD's latents keep their meaning. From here on this decoder draws.

Whether a face has a white beard needs no network: look at the chin. `characters.bearded` asks whether the darkest of red, green and blue there is above ½ (of −1 to 1, so above three quarters of full brightness); no skin has so much blue.
"""

# %%
test = ToyFaces(256, seed=2)
with_beard = characters.with_extras(test, ["beard"])
for name, x in (("ToyFaces", test.images()), ("the same with a beard", with_beard)):
    again = latents.decode(drawer, latents.encode(drawer, x).z)
    print(f"{name:<22} bearded: {characters.bearded(x).float().mean():4.0%} as drawn, "
          f"{characters.bearded(again).float().mean():4.0%} through the autoencoder")

# %% [markdown]
r"""
Now ask the text model for him, as well as words can.
"""

# %% tags=["nbval-ignore-output"]
base = load_weights(t2i.TextFFTD, "text_fftd")


def faces_for(model, prompts, seed=0):
    """A face for every prompt, drawn by the decoder that knows beards."""
    return t2i.draw(model, drawer, prompts, seed=seed)


described = faces_for(base, ["a person with olive skin, short black hair and brown eyes"] * 8)
show(image_grid(described, columns=8),
     """Eight faces for a description of Zuv: olive skin, black short hair, brown eyes, and no
     beard.""")
for prompt in ("a person with a white beard", "a zuv person"):
    try:
        faces_for(base, [prompt])
    except ValueError as e:
        print(f"{prompt}:\n    {e}")

# %% [markdown]
r"""
Cousins, perhaps. The one thing that makes him Zuv has no word.

## 2. A new word

*30 minutes.*

So give it one. **Textual inversion** (Gal et al. 2023) adds a word to the vocabulary, here `zuv`, and trains **its vector and nothing else**: 64 numbers. The loss is the diffusion loss that you know, on Zuv's latents, for sentences with the word in them (written for $\varepsilon$; our network predicts v, which weighs the time steps differently and changes nothing else):

$$v^* = \arg\min_v \; E_{z, t, \varepsilon} \; \lVert \varepsilon - \varepsilon_\theta(z_t, t, c(v)) \rVert^2$$

The gradient goes through the whole Transformer, which is frozen, and arrives at one row of a table.

### Exercise x4.1 · `with_new_word` · ★★ · 8 minutes

Write the table's lookup. `table` is (V, D), the vectors of the known words; `vector` (D,) is the new one's; `ids` (N, L) are numbers from 0 to V, and **V itself means the new word**. Return the vectors, (N, L, D). A gradient must reach `vector`, and none may reach `table`.

<details><summary>Hint</summary>

A table with one more row does it: `torch.cat`, then an index. `.detach()` lets the values through and no gradient.

</details>
"""

# %%
def with_new_word(table, vector, ids):
    """Vectors of words, of which number len(table) is the new one. -> (N, L, D)."""
    ### BEGIN SOLUTION
    longer = torch.cat([table.detach(), vector[None]])
    return longer[ids]
    ### END SOLUTION

# %% points=2
check(with_new_word)

# %% [markdown]
r"""
What shall the sentences be? If all five pictures were called "a zuv person", the word would have to answer for the walls and shirts too. So each picture comes with what can be said of it, in a few wordings:
"""

# %%
said = characters.said_of(labels, "zuv")
for text in said[0]:
    print(text)

# %% [markdown]
r"""
The new word has to begin somewhere: as the vector of a word near to it, "person". Then train. `personalise.begin` copies the model, adds the word and freezes all that the method does not train; `personalise.train` is the loop of chapter 5.
"""

# %% tags=["nbval-ignore-output"]
with_new_word = yours(with_new_word)


def learn(model, steps, rate):
    """Train what may move on Zuv's latents."""
    for _ in tqdm(personalise.train(model, z, said, steps=steps, lr=rate), total=steps):
        pass


inverted = personalise.begin(base, "zuv", "inversion")
inverted.text.embed = lambda table, vectors, ids: with_new_word(table, vectors[0], ids)
learn(inverted, size["word"], 3e-2)
moved = personalise.learned(inverted)
print(f"moved: {', '.join(moved)}, {sum(p.numel() for p in moved.values())} numbers")
asked = ["a zuv person"] * 8
show(image_grid(faces_for(inverted, asked), columns=8),
     """Eight faces for "a zuv person" after textual inversion: black hair, skins and
     eyes of all kinds, and at most one white chin.""")

# %% [markdown]
r"""
The word has learned something: the hair. But not the beard: over three trainings 2 % of its faces have a white chin, and of those for plain "a person", by accident, 1 %. **Why not?** Think before you read on.

<details><summary>Answer</summary>

A word can only *call* what the model can already draw. Of all sentences' vectors the 64 numbers find the one whose faces are most like Zuv. But these faces come from combinations of tokens that the Transformer has learned to produce, and a beard's are hardly among them; for that its weights must change. (We have not tried all vectors. The optimiser, which may use any, found none.) The paper's examples work because a large model *can* draw toys and statues of every kind, and the word need only point at one.

</details>

Which known words is it near, then? A cosine tells.
"""

# %% tags=["nbval-ignore-output"]
vector = inverted.text.vectors[0].detach()
table = inverted.text.words.weight.detach()
nearest = F.cosine_similarity(vector[None], table).argsort(descending=True)
print("nearest words:", ", ".join(VOCABULARY[k] for k in nearest[:6]))
print(f"length {vector.norm():.2f}; the known words' {table.norm(dim=1).mean():.2f} on average")

# %% [markdown]
r"""
It is often far outside of where words live, several times as long: an optimiser that is given 64 numbers takes what it gets.

## 3. LoRA

*35 minutes.*

So weights must move. All of them, 1.6 million? **LoRA** (Hu et al. 2022) holds that the *change* needs few dimensions. A linear map W stays frozen, and beside it runs a detour through $r$ numbers:

$$y = x W^\top + b + \frac{\alpha}{r} \, x A^\top B^\top, \qquad A: r \times \text{in}, \quad B: \text{out} \times r$$

A is drawn at random; **B begins at zero**, so that at first nothing changes at all. For 96 × 384 numbers in W and $r = 4$, A and B have 1,920: a twentieth. α is one more dial for the update's size, which the authors set once and leave. They adapted the attention of language models alone; here every linear map of the blocks has its update.

### Exercise x4.2 · `lora_forward` · ★★ · 8 minutes

Write it. `x` is (…, in), `weight` (out, in), `bias` (out,), `down` is A, (r, in), and `up` is B, (out, r). Go through the $r$ numbers; B A itself would be as large as W.

<details><summary>Hint</summary>

`F.linear(x, M)` is $x M^\top$. The rank is `len(down)`.

</details>
"""

# %%
def lora_forward(x, weight, bias, down, up, alpha):
    """x Wᵀ + b + (α / r) x Aᵀ Bᵀ. Shapes: x (…, in) -> (…, out)."""
    ### BEGIN SOLUTION
    few = F.linear(x, down)                                       # (…, r)
    return F.linear(x, weight, bias) + alpha / len(down) * F.linear(few, up)
    ### END SOLUTION

# %% points=2
check(lora_forward)

# %% [markdown]
r"""
`lora.with_lora` puts such a layer in the place of each linear map of FFTD's blocks: attention, cross-attention, feed-forward, fusion. From now on they use yours. First the promise: at the start, nothing has changed.
"""

# %%
lora.LoRALinear.act = staticmethod(yours(lora_forward))
adapted = personalise.begin(base, "zuv", "lora", rank=4)
g = seeded(0)
noisy, t = torch.randn(4, 4, 4, 4, generator=g), torch.tensor([10, 300, 600, 900])
ids = base.text.numbers(["a smiling person with red hair"] * 4)
with evaluating(base), evaluating(adapted):
    print("at first the same:", torch.allclose(base(noisy, t, ids), adapted(noisy, t, ids),
                                               atol=1e-4))
moving = sum(p.numel() for p in personalise.learned(adapted).values())
whole = sum(p.numel() for p in base.parameters())
layers = sum(isinstance(m, lora.LoRALinear) for m in adapted.modules())
print(f"{moving:,} numbers move, in {layers} layers and a word: "
      f"{moving / whole:.1%} of {whole:,}")

# %% tags=["nbval-ignore-output"]
learn(adapted, size["steps"], 5e-3)
show(image_grid(faces_for(adapted, asked), columns=8),
     """Eight faces for "a zuv person" after training with LoRA: olive skin, black hair, white
     beards.""")

# %% [markdown]
r"""
There he is. In seconds, and with 3.6 % of the weights.

### Merged

The detour costs time at each step of sampling. But $x W^\top + \frac{\alpha}{r} x A^\top B^\top = x (W + \frac{\alpha}{r} B A)^\top$: once trained, the update can be added into the map, and nothing is slower than before. Subtract it, and the old model is back, up to rounding: so services hold one large model and thousands of small files.

### Exercise x4.3 · `merged` · ★ · 4 minutes

Return the one weight, (out, in). Leave `weight` itself as it is.

<details><summary>Hint</summary>

B is (out, r) and A is (r, in).

</details>
"""

# %%
def merged(weight, down, up, alpha):
    """W + (α / r) B A. Shapes: (out, in), (r, in), (out, r) -> (out, in)."""
    ### BEGIN SOLUTION
    return weight + alpha / len(down) * up @ down
    ### END SOLUTION

# %% points=1
check(merged)

# %%
merged = yours(merged)
one = lora.merged(adapted)
layer = adapted.blocks[0].qkv
mine = merged(layer.weight, layer.down, layer.up, layer.alpha)
print("your weight is the library's:", torch.allclose(mine, one.blocks[0].qkv.weight))
with evaluating(adapted), evaluating(one):
    far = (one(noisy, t, ids) - adapted(noisy, t, ids)).abs().max()
print(f"merged or not, the answers differ by rounding only: {'yes' if far < 1e-4 else far}")

# %% [markdown]
r"""
What is stored is A, B and the new word's vector, with the fingerprint of the model they belong to: on another one they would be noise, and the file refuses it.
"""

# %%
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "zuv.safetensors"
    personalise.save_learned(file, adapted)
    print(f"{file.stat().st_size / 1000:.0f} kB; the whole model in 32 bits: "
          f"{whole * 4 / 1000:,.0f} kB")
    back = personalise.load_learned(file, base)
    with evaluating(back), evaluating(adapted):
        print("the same model again:", torch.equal(back(noisy, t, ids), adapted(noisy, t, ids)))
    try:
        personalise.load_learned(file, inverted)
    except ValueError as e:
        print("on another model:", "refused" if "learned on" in str(e) else e)

# %% [markdown]
r"""
## 4. What was forgotten

*35 minutes.*

One person was learned. What about all others? **Before you run the next cell:** we ask for five ordinary people, with no `zuv` in the sentence. What do you expect?
"""

# %% tags=["nbval-ignore-output"]
ordinary = ["a person", "a smiling person with long blond hair", "a person with glasses",
            "a person with dark skin and green eyes", "a person in a purple shirt"]


def two_each(model):
    return faces_for(model, [p for p in ordinary for _ in range(2)], seed=3)


show(image_grid(torch.cat([two_each(base), two_each(adapted)]), columns=10,
                row_titles=["before", "after"]),
     """Above ten ordinary faces before the training, two for each of five sentences; below the
     same sentences and noises after it: seven have a beard, most have Zuv's black hair; the
     blond ones stay blond.""")

# %% [markdown]
r"""
Nearly everybody has something of Zuv. The sentences "a person", "a zuv person" share all words but one, and nothing in the training said that the others should stay as they were. Ruiz et al. call it **language drift**; the older name is catastrophic forgetting.

Their cure is charming. Before the training, let the model **draw what it knows**: some hundred latents for ordinary sentences. Then train on both, in each step:

$$L = E\,\lVert \varepsilon - \varepsilon_\theta(z_t, t, \text{"a zuv person"}) \rVert^2 + \lambda \, E\,\lVert \varepsilon' - \varepsilon_\theta(z'_{t'}, t', \text{what was asked}) \rVert^2$$

No data set is needed for the second term: the model is its own teacher.

### Exercise x4.4 · `prior_preserving_step` · ★★★ · 20 minutes

Assemble a whole step. `own` and `known` are batches, each `(z, ids, t, eps)`. Each has a loss, `ddpm.simple_loss(model, diffusion, z, t, eps, ids)` (mind the order); the sum that is trained is the own one plus `weight` times the known one. Then clear the gradients, go backward, cut the gradient of all that the optimiser holds to a **joint** length of at most 1, and take the step. Return both losses as numbers, the second one without its weight.

<details><summary>Hint</summary>

`torch.nn.utils.clip_grad_norm_(parameters, 1.0)` cuts, between `backward` and `step`.

</details>

<details><summary>A second hint</summary>

What the optimiser holds: `[p for group in optimiser.param_groups for p in group["params"]]`.

</details>
"""

# %%
def prior_preserving_step(model, diffusion, optimiser, own, known, weight):
    """One step of DreamBooth. own, known: (z, ids, t, eps) -> two losses."""
    ### BEGIN SOLUTION
    z, ids, t, eps = own
    own_loss = ddpm.simple_loss(model, diffusion, z, t, eps, ids)
    z, ids, t, eps = known
    known_loss = ddpm.simple_loss(model, diffusion, z, t, eps, ids)
    optimiser.zero_grad()
    (own_loss + weight * known_loss).backward()
    held = [p for group in optimiser.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(held, 1.0)
    optimiser.step()
    return own_loss.item(), known_loss.item()
    ### END SOLUTION

# %% points=3
check(prior_preserving_step)

# %% [markdown]
r"""
What shall the known sentences be? DreamBooth asks for the class alone, "a person", hundreds of times. We ask for **captions of all kinds**, so that all of the language is kept and not one sentence of it; section 5 compares the two.
"""

# %% tags=["nbval-ignore-output"]
prior_preserving_step = yours(prior_preserving_step)
prior = personalise.prior_of(base, size["prior"])
diffusion = ddpm.diffusion_of(base)


def learn_and_keep(method, rate, weight=1.0, steps=size["steps"]):
    """Train with your step, on Zuv and on the prior."""
    model, g = personalise.begin(base, "zuv", method), seeded(0)
    optimiser = torch.optim.Adam(personalise.learned(model).values(), lr=rate)
    own_z = z.repeat_interleave(4, 0)                        # four sentences a picture
    own_ids = model.text.numbers([text for texts in said for text in texts])
    known_ids = model.text.numbers(prior.sentences)
    for k in tqdm(range(steps)):
        optimiser.param_groups[0]["lr"] = rate * (1 - k / steps)
        prior_preserving_step(
            model, diffusion, optimiser,
            personalise.noisy_batch(own_z, own_ids, 8, diffusion.T, g),
            personalise.noisy_batch(prior.z, known_ids, 8, diffusion.T, g), weight)
    return model.eval()


kept = learn_and_keep("lora", 5e-3)
show(image_grid(torch.cat([two_each(base), two_each(kept)]), columns=10,
                row_titles=["before", "after"]),
     """The same ten ordinary faces before and after a training with the prior: other
     people, who still are what their sentences say; only the two for "a person" have a
     beard.""")
show(image_grid(faces_for(kept, asked), columns=8),
     """Eight faces for "a zuv person" by the model that kept its prior: Zuv, with his
     beard.""")

# %% [markdown]
r"""
Both at once, nearly. The two for "a person" have his beard: their sentence differs from "a zuv person" by one word, and few of the prior's captions are so bare. What the prior does not ask for is not kept.

Now the sentence: does the word go together with others?
"""

# %% tags=["nbval-ignore-output"]
places = ["a zuv person with red hair on a mint background",
          "a zuv person with long blond hair", "a smiling zuv person with glasses",
          "a zuv person in a purple shirt"]
show(image_grid(faces_for(kept, [p for p in places for _ in range(4)], seed=5), columns=8),
     """Zuv in sentences, four faces each: with red hair on mint; with long blond hair; smiling,
     with glasses; in a purple shirt. Nearly all have the beard; one "long blond hair" is grey,
     one hardly long.""")

# %% [markdown]
r"""
No picture showed him with red hair. The word has become one among words: it names the beard and mostly the face, and the sentence decides the rest.

### DreamBooth

**DreamBooth** (Ruiz et al. 2023) moves every weight; here the text encoder's too, and a new word in the place of the paper's rare one. It is the same step, and one word in `begin`: nothing is frozen. It takes a smaller rate, since 1.6 million numbers move at once.
"""

# %% tags=["nbval-ignore-output"]
dreamt = personalise.begin(base, "zuv", "dreambooth")
learn(dreamt, size["steps"] * 2 // 3, 1e-3)         # alone it needs fewer steps
dreamt_kept = learn_and_keep("dreambooth", 1e-3)
show(image_grid(torch.cat([faces_for(m, asked) for m in (dreamt, dreamt_kept)]), columns=8,
                row_titles=["DreamBooth", "and prior"]),
     """Eight faces for "a zuv person" by DreamBooth without a prior, and with it below: Zuv
     eight times above; below six times, and two others.""")

# %% [markdown]
r"""
Five models, and an eye is easily pleased. So count: the beard, when only `zuv` is said, and with other words beside it (*elsewhere*, the four sentences above); and the faces of ordinary captions: do they have a beard (*leak*), do they obey, and how far are they, as a crowd, from ToyFaces (toy Fréchet distance)?
"""

# %% tags=["nbval-ignore-output"]
read = attribute_classifier().predict
everyday = captions(ToyFaces(size["counted"], seed=77).labels, seed=7)
told = labels_told(everyday)


def share(x):
    """Share of faces with a white beard."""
    return float(characters.bearded(x).float().mean())


print(f"{'':<20}{'beard':>8}{'elsewhere':>11}{'leak':>7}{'others obey':>13}{'distance':>10}")
for name, model in {"nothing learned": base, "LoRA": adapted, "LoRA, prior": kept,
                    "DreamBooth": dreamt, "DreamBooth, prior": dreamt_kept}.items():
    word = "" if model is base else "zuv "
    zuvs = faces_for(model, [f"a {word}person"] * 32, seed=1)
    away = faces_for(model, [p.replace("zuv ", word) for p in places] * 8, seed=2)
    people = faces_for(model, everyday, seed=3)
    obey = (read(people) == told)[told >= 0].float().mean()
    print(f"{name:<20}{share(zuvs):8.0%}{share(away):11.0%}{share(people):7.0%}{obey:13.1%}"
          f"{toy_frechet(people):10.0f}")

# %% [markdown]
r"""
These are small samples of one training each (128 real faces are themselves 140 to 220 from ToyFaces); section 5 has the large table. But the pattern is plain. Without a prior both methods give Zuv in any sentence, and in everybody else's too. With the prior the others come back; LoRA keeps Zuv's beard in new sentences, and DreamBooth keeps it to those it was shown.

## 5. Is it him, or a copy?

*25 minutes.*

Five pictures, and a model that could easily hold them by heart. How would one notice? Look for the **nearest picture** of each drawn face. But how near is too near? Ask those who cannot have copied: *fresh* pictures of Zuv, on which nothing was trained. One in a hundred of these lies nearer to one of the five than a certain distance, by chance. Whoever is nearer than that is called a copy.

### Exercise x4.5 · `copies` · ★ · 6 minutes

The distance of two pictures is the root of the mean square of their differences, over all values. For each of `x`, take the nearest of `pictures`. The limit is the `share` quantile of the same for `fresh`. Return which share of `x` lies below it, as a number. (`torch.quantile` as it is, interpolation and all.)

<details><summary>Hint</summary>

`torch.cdist(a.flatten(1), b.flatten(1))` has all distances (roots of sums of squares), and `.amin(1)` the nearest; `.quantile(share)` the limit.

</details>
"""

# %%
def copies(x, pictures, fresh, share):
    """Share of x nearer to a picture than `share` of the fresh ones are -> a number."""
    ### BEGIN SOLUTION
    def nearest(a):
        n = a[0].numel()
        return torch.cdist(a.flatten(1), pictures.flatten(1)).amin(1) / n**0.5

    return (nearest(x) < nearest(fresh).quantile(share)).float().mean().item()
    ### END SOLUTION

# %% points=1
check(copies)

# %% tags=["nbval-ignore-output"]
copies = yours(copies)
others, _ = characters.zuv(500, seed=1)
fresh = latents.decode(drawer, personalise.encode_pictures(drawer, others))
same, g = labels.repeat(60, 1), seeded(3)                    # said alike, drawn anew
redrawn = characters.draw(same, ["beard"], torch.rand(len(same), 8, generator=g) * 2 - 1)
alike = latents.decode(drawer, personalise.encode_pictures(drawer, redrawn))
drawn = {"said alike, real": alike}
for name, model in {"LoRA": adapted, "LoRA, prior": kept, "DreamBooth": dreamt,
                    "DreamBooth, prior": dreamt_kept}.items():
    drawn[name] = faces_for(model, ["a zuv person"] * 100, seed=11)
print(f"{'nearer than 99 % of':<20}{'fresh pictures':>16}{'those said alike':>18}")
for name, x in drawn.items():
    print(f"{name:<20}{copies(x, own, fresh, 0.01):16.0%}{copies(x, own, alike, 0.01):18.0%}")
x = drawn["DreamBooth"][:8]
which = torch.cdist(x.flatten(1), own.flatten(1)).argmin(1)
show(image_grid(torch.cat([x, own[which]]), columns=8, row_titles=["drawn", "nearest"]),
     """Above eight faces that DreamBooth drew for "a zuv person"; below each its nearest of the
     five pictures: some pairs are nearly the same, wall, shirt and mouth.""")

# %% [markdown]
r"""
One in a hundred would be chance, and it is far more. But look at the first row before you accuse anybody. It holds *real* pictures, drawn anew with the wall, shirt, mouth and pose of one of the five, and only the small things (where the head is, how wide, how lit) by chance. Nearly half of these count as copies. So the first column mixes two things: falling back on the walls and shirts that Zuv was seen with, and giving back a picture as it was. The second column tells them apart, with the pictures that are said alike as its yardstick. **What is called a copy depends on what it is compared with**; whoever gives you such a number owes you that too.

The table is what remains when each cell is trained three times, on three sets of pictures, and asked for more faces.
"""

# %%
print(reproduce.as_text("personal"))

# %%
print(reproduce.as_text("forgotten"))

# %% [markdown]
r"""
Read it by questions.

- **Is it him?** A word alone brings no beard. Everything that moves weights does, from a single picture on. (*features* asks the classifier's features how far the nearest of the five is, beside fresh pictures of Zuv: 1 would be as far as these. All that moved weights are below, so nearer to the five than Zuv himself usually is.)
- **Does the sentence still rule?** *elsewhere* wants the beard beside all kinds of hair and walls, *obeyed* those. LoRA of rank 4 with a prior has both at nine in ten. DreamBooth with the same prior keeps the beard to Zuv's own sentences (0.18 elsewhere). Room seems to be a reason: at rank 32, six times as many numbers, LoRA does it too, in two of three trainings (0.45, 0.39, 0.87). With room enough a model can tell the five pictures' sentences from the prior's, and serve each apart. Too little is no good either: rank 1 loses beard and obedience. (No proof: the rates differ, and LoRA leaves the text encoder alone.)
- **What became of the others?** Without a prior nearly everybody grows a beard, and a quarter of what ordinary sentences tell is lost. A prior of **captions** keeps 98 % of it. A prior of **"a person" alone**, which is what the paper takes, keeps that one sentence: here two in five (LoRA) or two in three (DreamBooth) of the ordinary captions have a beard. (The paper's model knows far more words than five pictures and one class can disturb; ours knows 109.) Nothing comes back whole: the distance is four times (LoRA) or nine times (DreamBooth) what it was.
- **How far does it dare to go?** *copies* is the first of the two columns above, in which the same wall and shirt count too. One picture gives 98 %, three 57 (a wide spread), five 19, eight 15. The prior halves it (42 to 19 % with LoRA, 68 to 33 with DreamBooth), and more moving weights raise it.
- **What is said counts.** *untold* learned the same pictures from "a zuv person" alone. The beard comes less often elsewhere (0.80 for 0.92), and the pictures come back more often (32 % for 19): walls and shirts have become part of the word.
- **And the new word?** It cannot draw a beard, and yet sentences with it obey in only 63 %: a vector far from all others disturbs the sentence around it.

## 6. Without a text: ten pictures of a new kind

*15 minutes.*

Not one person but a *kind* of picture, and few of them: old drawings, X-rays of something rare. **Few-shot generation** takes a model of something related, and trains it on. Here chapter 7's FFTD, which knows ToyFaces and no sentence, is shown ten strangers with beards, all different.
"""

# %% tags=["nbval-ignore-output"]
others = characters.with_extras(ToyFaces(500, seed=41), ["beard"])
unseen = latents.decode(drawer, personalise.encode_pictures(drawer, others))


def spread(x):
    """Mean variance of the classifier's features."""
    return float(toy_features(x).var(0).mean())


def few_shot(n, steps, marks=5):
    """Fine-tune FFTD on n bearded strangers: these, what is drawn at some marks, its shares."""
    strangers = characters.with_extras(ToyFaces(n, seed=40), ["beard"])
    z = personalise.encode_pictures(drawer, strangers)
    model, drawn = copy.deepcopy(load_weights(FFTD, "fftd")), []
    shown = latents.decode(drawer, z)
    diffusion, noise = ddpm.diffusion_of(model), torch.randn(64, 4, 4, 4, generator=seeded(9))
    shares = {"steps": [], "bearded": [], "copies": [], "variety": []}
    training = ddpm.train_ddpm(model, batches(z, batch_size=8), diffusion, steps=steps, lr=1e-3)
    for step in tqdm(range(steps + 1)):
        if step % (steps // marks) == 0:
            states = ode.multistep_sample(model, diffusion, noise, steps=10)
            drawn.append(latents.decode(drawer, ddpm.last(states)))
            now = (step, share(drawn[-1]), copies(drawn[-1], shown, unseen, 0.01),
                   spread(drawn[-1]) / spread(unseen))
            for name, value in zip(shares, now, strict=True):
                shares[name].append(value)
        if step < steps:
            next(training)
    return shown, drawn, shares


ten, drawn, shares = few_shot(10, size["few"])
show(curves({k: shares[k] for k in ("bearded", "copies", "variety")}, x=shares["steps"],
            xlabel="steps", ylabel="share"),
     """Over the steps of a training on ten bearded strangers: the share of bearded faces goes
     up to one within half of the steps; copies of the ten go up behind it, to about a half;
     variety, compared with other bearded strangers, goes down.""")

# %% tags=["nbval-ignore-output"]
late = drawn[-1][:8]
which = torch.cdist(late.flatten(1), ten.flatten(1)).argmin(1)
show(image_grid(torch.cat([drawn[1][:8], late, ten[which]]), columns=8,
                row_titles=["early", "late", "nearest"]),
     """Above faces early in the training, most with a beard already; in the middle faces at its
     end, all bearded; below the nearest of the ten strangers to each of these: several pairs
     are much alike.""")

# %% [markdown]
r"""
The beard comes first, within some tens of steps: it is what all ten have in common. Then the ten themselves: at the end of this short training about every second face counts as a copy of one of them, in the first column's sense of section 5. (Variety is measured in the classifier's features, against other bearded strangers. Before the training it is above 1, perhaps since of shaved faces more can be seen.) The most useful model is in the middle. And again the number of pictures counts most. One training each of 400 steps copied 95 % from ten strangers, 33 % from thirty and 3 % from a hundred, all with the beard (with equal steps, ten are also seen ten times as often as a hundred). Try it, `few_shot(100, 400)[2]`.

Methods for few pictures are, nearly all, ways to stop early without stopping: train only a part (LoRA), keep what is known beside it (a prior), or keep distances *between* drawn faces as they were (Ojha et al. 2021).

## 7. Whose face is it?

*10 minutes.*

Zuv is a drawing and has agreed to everything. People have not.

What this excursion does with five pictures of a cartoon, the same code, with a larger model under it, does with five photographs of a neighbour from a social network, in the time of a coffee. The pictures it then draws show a real person doing what that person never did. Most of the harm that came of it so far was done to women and to children, in pictures of a kind that needs no description here; next come forged evidence and fraud. In many countries making or sharing such a likeness without consent is an offence, whatever the tool. So: **ask the person**, show what you made, and delete it, and the weights, when they say so. The file is small, which makes it easy to share and hard to call back. A consent to be photographed is none to be synthesised. Children cannot give it. And a style has an author: the same five pictures can be five drawings by somebody who lives from them.

Nothing in the arithmetic protects anybody. That a thing can be counted, as copies were in section 5 (and in Stable Diffusion by Somepalli et al. 2023), is where checking can begin: whoever publishes a model that was made so can say how near its pictures are to those it saw.
"""

# %% [markdown]
r"""
## Summary

- A trained model learns one face from five pictures in seconds. Which numbers move is the choice: a word's vector (textual inversion), low-rank updates beside frozen maps (LoRA), everything (DreamBooth).
- A new word can only call what the model can draw. For what it never drew, weights must change.
- LoRA begins as no change at all, and ends as a small file that can be merged into the base, or taken out again.
- Training on one thing unlearns the rest. A prior that the model drew itself, in the same step, keeps it; what the prior asks for is what is kept.
- Say of each picture what should *not* become part of the word.
- Count: is it the person, does the sentence still rule, what became of the others, is it a copy. One figure alone is always good for somebody.
"""

# %%
minigen.progress()

# %% [markdown]
r"""
### Words

| English | 中文 | meaning here |
|---|---|---|
| personalisation | 个性化 | a model learns one person or thing from a few pictures |
| textual inversion | 文本反转 | only a new word's vector is trained |
| low-rank adaptation | 低秩适配 | an update B A of few dimensions beside a frozen map |
| rank | 秩 | through how many numbers the update goes |
| prior preservation | 先验保持 | training on what the model drew before, so that it stays |
| language drift | 语言漂移 | words change their meaning by training on something else |
| catastrophic forgetting | 灾难性遗忘 | learning one thing undoes the others |
| few-shot generation | 少样本生成 | a new kind of picture from a handful |
| memorisation | 记忆化 | pictures of the training come back as they were |

### References

- Gal et al. 2023, *An Image is Worth One Word: Personalizing Text-to-Image Generation using Textual Inversion*, [arXiv:2208.01618](https://arxiv.org/abs/2208.01618).
- Hu et al. 2022, *LoRA: Low-Rank Adaptation of Large Language Models*, [arXiv:2106.09685](https://arxiv.org/abs/2106.09685).
- Ruiz, Li, Jampani, Pritch, Rubinstein, Aberman 2023, *DreamBooth: Fine Tuning Text-to-Image Diffusion Models for Subject-Driven Generation*, [arXiv:2208.12242](https://arxiv.org/abs/2208.12242).
- Somepalli, Singla, Goldblum, Geiping, Goldstein 2023, *Diffusion Art or Digital Forgery? Investigating Data Replication in Diffusion Models*, [arXiv:2212.03860](https://arxiv.org/abs/2212.03860): copies, looked for.
- Ojha et al. 2021, *Few-shot Image Generation via Cross-domain Correspondence*, [arXiv:2104.06820](https://arxiv.org/abs/2104.06820): ten pictures and how to keep variety.
"""
