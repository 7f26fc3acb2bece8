"""What an exported folder is, in Croissant 1.0 (JSON-LD): its files with checksums, its columns, and where it may mislead.

Source: the Croissant format specification 1.0 and Croissant RAI 1.0 of MLCommons; NeurIPS asks data sets for both since 2026.
Author, place of publication and licence are the publisher's to say: edit `creator`, `url`, `license` and `citeAs`, and then
the file's line in SHA256SUMS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.results.runs import Run

CORE, RAI = "http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"
TERMS = [
    "citeAs", "column", "conformsTo", "data", "dataType", "equivalentProperty", "extract", "field", "fileObject",
    "fileProperty", "fileSet", "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
    "recordSet", "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
]  # fmt: skip
SPECIAL = {
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
}
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    **{term: SPECIAL.get(term, f"cr:{term}") for term in TERMS},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
KINDS = {".json": "application/json", ".csv": "text/csv", ".parquet": "application/x-parquet"}
RUN, SAMPLE = (
    ("run", "sc:Text", "directory of the run"),
    ("sample", "sc:Text", "the video: id of its prompt, and its seed"),
)
SCORE_FIELDS = (
    RUN,
    SAMPLE,
    ("metric", "sc:Text", "what was measured"),
    ("version", "sc:Integer", "version of the metric"),
    ("protocol", "sc:Text", "how videos were cut into clips, or cost"),
    ("t_start", "sc:Float", "beginning of the clip, seconds"),
    ("t_end", "sc:Float", "end of the clip, seconds"),
    ("value", "sc:Float", "the score; empty where it could not be measured"),
    ("weights_sha256", "sc:Text", "sha256 of the weights of the metric's networks; empty without any"),
    ("window_seconds", "sc:Float", "length of windows; 0 under other protocols"),
)
COST_FIELDS = (
    *SCORE_FIELDS[:3],
    (
        "value",
        "sc:Float",
        "kv_frames: latent frames, kv_tokens: tokens a pass reads; kv_stored: MB; chunk_time: times Self Forcing's",
    ),
)
VIDEO_FIELDS = (
    RUN,
    SAMPLE,
    ("prompt_id", "sc:Text", "first ten digits of the prompt's sha256"),
    ("prompt", "sc:Text", "the text that the video was made for"),
    ("sha256", "sc:Text", "of the video's file, which is not here"),
    ("seed", "sc:Integer", "seed of the video's noise"),
    ("frames", "sc:Integer", "frames of the video"),
    ("fps", "sc:Float", "frames a second"),
    ("seconds", "sc:Float", "length of the video"),
    ("wall_seconds", "sc:Float", "seconds that it took to make"),
)


def croissant(runs: Sequence[Run], sums: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, Any]:
    """The object to be written. sums, sizes: sha256 and bytes of the folder's other files, by name."""
    videos = sum(len(run.samples) for run in runs)
    dates = sorted(str(run.record["created"])[:10] for run in runs if run.record.get("created"))
    worlds = {run.record.get("world") for run in runs}
    about = f"Scores of {videos} generated videos, video by video, of {len(runs)} runs of cache policies for video diffusion."
    found: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": [CORE, RAI],
        "name": f"deepforcing_scores_{sums['scores.parquet'][:8]}",
        "description": f"{about} Without the videos. Labels: {', '.join(run.label for run in runs)}.",
        "version": "1.0.0",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "url": f"urn:sha256:{sums['scores.parquet']}",
        "creator": {"@type": "sc:Person", "name": "whoever made these runs: to be said by who publishes the folder"},
        "citeAs": "to be said by who publishes the folder",
        "datePublished": dates[-1] if dates else "1970-01-01",
        "isLiveDataset": False,
        **responsible(runs, embedded=worlds == {"tiny"}),
        "distribution": [file_object(name, sums[name], sizes[name]) for name in sums],
        "recordSet": [
            record_set("scores", "One line a video, metric and clip.", "scores.parquet", SCORE_FIELDS),
            record_set("costs", "One line a video and kind of cost.", "costs.parquet", COST_FIELDS),
            record_set("videos", "One line a video.", "videos.csv", VIDEO_FIELDS),
        ],
    }
    return found


def responsible(runs: Sequence[Run], embedded: bool) -> dict[str, Any]:
    """The fields of responsible AI that apply to scores of generated videos."""
    commits = {str((run.record.get("environment") or {}).get("git_commit")) for run in runs}
    of = (
        "The model is the embedded world's, 1.8 M parameters trained on procedural video: the scores say nothing of Wan."
        if embedded
        else "Scores are of the models that the records of the runs name, and of no others."
    )
    return {
        "rai:hasSyntheticData": True,
        "rai:dataCollection": "Videos were generated by the runs whose records are here, then scored by this project.",
        "rai:dataCollectionType": ["Software Collection"],
        "rai:dataLimitations": [
            f"{of}",
            "A score is of one video of one seed; means need the intervals over prompts that experiments.leaderboard gives.",
            "VBench's Quality, where it is, rewards standing still.",
        ],
        "rai:dataBiases": "Prompts are those of videos.csv and no sample of what people ask for; metrics prefer what their "
        "networks were trained to prefer.",
        "rai:personalSensitiveInformation": "None was collected. Prompts are texts of suites or of who made the runs, and may "
        "name people if these did.",
        "rai:dataUseCases": "Comparing cache policies of autoregressive video diffusion at equal prompts, seeds, lengths and "
        "protocols. Not for training, and not for judging other models.",
        "rai:dataSocialImpact": "Cheaper long videos serve whoever makes videos, those who deceive with them among them; "
        "scores alone add little to either.",
        "rai:dataReleaseMaintenancePlan": "None: a folder is final, another one replaces it. SHA256SUMS tells them apart.",
        "prov:wasGeneratedBy": f"deepforcing at commit {', '.join(sorted(commits))}",
    }


def file_object(name: str, sha256: str, size: int) -> dict[str, Any]:
    kind = KINDS[name[name.rindex(".") :]]
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": kind,
        "contentSize": f"{size} B",
        "sha256": sha256,
    }


def record_set(name: str, about: str, file: str, fields: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": about,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": said,
                "dataType": kind,
                "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
            }
            for column, kind, said in fields
        ],
    }
