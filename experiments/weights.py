"""What the published models need: which files, what is there, where to get the rest. Downloads only when asked.

    python -m experiments.weights                              everything that is known, and what of it is here
    python -m experiments.weights longlive                     one generator: checkpoint, LoRA, VAE, text encoder, tokenizer
    python -m experiments.weights longlive download=true       fetch what is missing (progress bar; resumes; pins the revision)
    python -m experiments.weights self_forcing convert=true    write the weights that are used as one safetensors file
    python -m experiments.weights longlive verify=true         sha256 of what is here, recorded or compared
    python -m experiments.weights moviegen_128 download=true   a published list of prompts, checked against its sha256
    python -m experiments.weights metrics                      what the metrics' networks need, where vbench looks for it
    python -m experiments.weights taehv download=true          the tiny decoder (model.decoder=taehv), from GitHub, checked too

Further keys: root=DIR (else $DEEPFORCING_WEIGHTS, else ./weights), revision=REV (for download, with one NAME). Without a
network it says what to copy where. root/manifest.json keeps revision and sha256 of every file once they are known; a file
that differs from its record is an error. Exit status: 0, 1 if something is missing, 2 for wrong input or failed work.
"""

from __future__ import annotations

from experiments.command import program
from experiments.command.moved import moved


def weights_task(arguments: list[str]) -> int:
    from experiments.downloads.models import parse, show, work  # torch: --help does without

    request = parse(arguments)
    if request.flags:
        work(request)
    missing = show(request)
    return int(bool(missing and request.names))


main = program(weights_task, lambda: str(__doc__))

__getattr__ = moved(
    __name__,
    {
        "experiments.downloads.models": "Request convert files_of line parse show size_text work",
        "experiments.downloads.hub": "copy_hint download fetch fetch_pinned",
        "experiments.downloads.manifest": "Manifest",
    },
)

if __name__ == "__main__":
    main()
