# %% [markdown]
# # A first label-efficiency curve
#
# The whole way on virtual patients, in about a minute and without network: scans become a cohort, encoders are
# pretrained on them without labels, every arm is trained on the same few labels several times, and the curve shows what
# each label is worth. The patients are virtual, so nothing here is evidence about any method.

# %%
import json

import altair

import medssl
from medssl.demo import run_demo
from medssl.encoders import embed_all, load_checkpoint

altair.renderers.enable("svg")  # charts are drawn here; without it they ask the internet for a program
workspace = medssl.Workspace("medssl_workspace")
results = run_demo(workspace, quick=True)

# %% [markdown]
# ## The cohort
#
# Patients are known by keys alone. `cohort.scans()` is a data frame with a row a scan.

# %%
cohort = medssl.Cohort.open(results.cohort_folder)
cohort

# %%
cohort.scans()[["modality", "vendor", "shape", "spacing"]].head()

# %% [markdown]
# ## The results
#
# An experiment is a folder; `medssl.Results.open(folder)` opens it again at any time.

# %%
results

# %% [markdown]
# ## The curve
#
# Bands are 95 % intervals over draws of labels and test patients. `results.curve("accuracy", ["simclr", "scratch"])`
# draws another metric, or fewer arms.

# %%
results.curve()

# %% [markdown]
# ## Does pretraining help?
#
# The difference is paired: the same labels and the same test patients for both arms.

# %%
results.compare("simclr", "scratch")

# %% [markdown]
# ## All figures in one frame
#
# For tables of your own. `results.scores()`, `results.differences()`, `results.savings()` and `results.evidence()` hold
# more.

# %%
results.to_frame().loc["simclr"]

# %% [markdown]
# ## The encoder
#
# What was pretrained is one file, with all that is needed to use it elsewhere. `embed` takes images in [0, 1].

# %%
keys = json.loads((results.path / "pretrained.json").read_text())
loaded = load_checkpoint(workspace.encoder(keys["simclr"]) / "checkpoint.safetensors")
loaded.encoder

# %%
samples = cohort.samples(results.settings.view)
embed_all(loaded.encoder, samples.images[:8]).shape

# %% [markdown]
# ## On your own scans
#
# Write a config like those in `configs/` and run `medssl.run(medssl.load_experiment("mine.yaml"), workspace)`, or use
# the page *New run* of `medssl app`.
