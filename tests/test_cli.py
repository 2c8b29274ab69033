import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from sam_adapter import cli
from sam_adapter.config.base import Config
from sam_adapter.config.commands import EvaluateConfig, PredictConfig
from sam_adapter.config.ranges import RANGES
from sam_adapter.config.training import TrainConfig
from sam_adapter.errors import ConfigError

TRAIN = ["--images", "i", "--masks", "m", "--model", "vit_b", "--output", "o"]


def test_help_does_not_import_torch():
    code = (
        "import sys, contextlib\nfrom sam_adapter import cli\n"
        "with contextlib.suppress(SystemExit): cli.main(['--help'])\n"
        "with contextlib.suppress(SystemExit): cli.main(['train', '--help'])\n"
        "assert not {'torch', 'transformers', 'lightning', 'cv2'} & set(sys.modules), sorted(sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {name}" in shown for name in cli.COMMANDS)
    assert "--val-fraction" in shown
    assert "Fraction held out" in shown


def test_options_dashes_flags_and_files(tmp_path: Path):
    config = cli.parse("train", [*TRAIN, "--batch-size", "4", "--val_fraction=0.3", "--resume", "--parts", "[]"])
    assert isinstance(config, TrainConfig)
    assert (config.batch_size, config.val_fraction, config.resume, config.parts) == (4, 0.3, True, ())
    (tmp_path / "c.yaml").write_text(config.but(epochs=7, val_images=Path("v"), val_masks=Path("w")).to_yaml())
    again = cli.parse("train", ["--config", str(tmp_path / "c.yaml"), "--lr", "0.1"])
    assert again == config.but(epochs=7, lr=0.1, val_images=Path("v"), val_masks=Path("w"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*TRAIN, "--epoch", "3"], "--epoch"),
        ([*TRAIN, "--epochs", "0", "--lr", "-1"], "lr: expected a positive number"),
        ([*TRAIN, "--prompt", "circle"], "prompt"),
        ([*TRAIN, "--config", "missing.yaml"], "error: config: File does not exist: '"),
        ([*TRAIN, "--epochs", "many"], "error: epochs: expected a whole number, got 'many'.\n"),
        ([*TRAIN, "--image-size", "big"], "error: image_size: expected a whole number or null, got 'big'.\n"),
        ([*TRAIN, "--tile", "none"], "error: tile: expected a number of pixels, 0 for whole pictures, or"),
        ([*TRAIN, "--preset", "papr"], "error: preset: expected one of wide, paper, got 'papr'. Did you mean 'paper'?"),
        ([*TRAIN, "--promt", "box"], "--promt box. Did you mean --prompt?"),
        (TRAIN[4:], "or a known set with its root; got none of them.\n"),
        (TRAIN[2:], "error: images: must be given with masks.\n"),
        ([*TRAIN[:6], "--output", "m/run"], "output: 'm/run' lies in the folder of masks"),
        ([*TRAIN[:6], "--output", "i"], "output: 'i' lies in the folder of images"),
    ],
)
def test_wrong_options_exit_with_2_and_name_the_option(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", *arguments])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_evaluation_is_not_written_among_its_pictures(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--images", "i", "--masks", "m", "--model", "tiny", "--output", "i/test"])
    assert "output: 'i/test' lies in the folder of images" in capsys.readouterr().err
    beside = cli.parse("evaluate", ["--images", "d/i", "--masks", "d/m", "--model", "tiny", "--output", "d/test"])
    assert beside.output == Path("d/test")  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epoch: 3", "error: config: there is no option 'epoch'. Did you mean epochs?\n"),
        ("epochs: many", "error: epochs: expected a whole number, got 'many'.\n"),
        ("foo", "error: config: expected a YAML file of 'option: value' lines, got something else ('foo').\n"),
        ("a: [", "error: config: expected a YAML file of 'option: value' lines, got something else ("),
    ],
)
def test_a_wrong_file_of_options(tmp_path: Path, content: str, message: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(SystemExit):
        cli.main(["train", *TRAIN, "--config", str(tmp_path / "c.yaml")])
    assert message in capsys.readouterr().err


def test_wrong_command_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["trian"])
    assert stop.value.code == 2
    assert "Did you mean 'train'?" in capsys.readouterr().err


def test_all_problems_of_a_configuration_at_once():
    with pytest.raises(ConfigError) as error:
        TrainConfig(
            images=Path("i"),
            masks=Path("m"),
            model="m",
            output=Path("o"),
            loss="x",
            epochs=0,
            val_images=Path("v"),
        )
    assert len(error.value.problems) == 3
    with pytest.raises(ConfigError, match="adapter or model"):
        PredictConfig(input="x", output=Path("o"))
    with pytest.raises(ConfigError, match="with_frozen: needs an adapter"):
        EvaluateConfig(images=Path("i"), masks=Path("m"), model="m", output=Path("o"), with_frozen=True)


def test_unknown_key_in_a_file(tmp_path: Path):
    (tmp_path / "c.yaml").write_text("images: i\nmasks: m\nmodel: m\noutput: o\nepoch: 3\n")
    with pytest.raises(ConfigError, match="unknown keys epoch"):
        TrainConfig.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(SystemExit):
        cli.parse("train", ["--config", str(tmp_path / "c.yaml")])


def test_check_prints_the_report_and_fails_on_faults(pairs: Path, capsys: pytest.CaptureFixture[str]):
    folders = ["--images", str(pairs / "images"), "--masks", str(pairs / "masks")]
    cli.main(["check", *folders])
    assert "6 good pairs, 0 faults" in capsys.readouterr().out
    (pairs / "masks/img_00.png").unlink()
    with pytest.raises(SystemExit) as stop:
        cli.main(["check", *folders])
    assert stop.value.code == 1
    assert "img_00.png" in capsys.readouterr().out


def test_train_evaluate_predict_from_the_command_line(
    pairs: Path, sam_folder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folders = ["--images", str(pairs / "images"), "--masks", str(pairs / "masks")]
    machine = ["--accelerator", "cpu", "--workers", "0"]
    run = tmp_path / "run"
    cli.main(["train", *folders, *machine, "--model", sam_folder, "--output", str(run), "--epochs", "1"])
    adapter = ["--adapter", str(run / "adapter")]
    cli.main(["evaluate", *folders, *machine, *adapter, "--output", str(tmp_path / "e"), "--with-frozen"])
    cli.main(["predict", *machine, *adapter, "--input", str(pairs / "images"), "--output", str(tmp_path / "p")])
    shown = capsys.readouterr().out
    assert "frozen" in shown
    assert len(list((tmp_path / "p/masks").iterdir())) == len(list((tmp_path / "p/overlays").iterdir())) == 6


def test_a_library_cannot_swallow_ctrl_c_while_it_is_imported(tmp_path: Path):
    (tmp_path / "greedy.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\nexcept BaseException:\n    pass\n"
    )
    code = (
        "from sam_adapter import cli\n"
        "def run(config):\n    import greedy\n    print('went on')\n"
        "cli.RUN['info'] = run\ncli.main(['info'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "sam-adapter: stopped.\n")


def test_a_users_error_has_no_traceback(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        cli.main(["predict", "--adapter", str(tmp_path), "--input", str(pairs / "images"), "--output", "o"])
    assert stop.value.code == 2
    assert "sam_adapter.json" in capsys.readouterr().err


def test_python_configurations_are_checked_like_the_command_line(tmp_path: Path):
    values = {"images": "i", "masks": "m", "model": "m", "output": "o", "parts": ["mask_decoder"], "lr": "2e-4"}
    config = TrainConfig(**values)  # type: ignore[arg-type]
    assert config.images == Path("i")
    assert config.parts == ("mask_decoder",)
    assert config.lr == 2e-4
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "c.yaml") == config
    with pytest.raises(ConfigError) as error:
        TrainConfig(**values | {"prompt": "boxes", "method": "none_such", "epochs": 2.5, "resume": "yes"})  # type: ignore[arg-type]
    for name in (
        "prompt: expected one of box, points",
        "method: expected",
        "epochs: expected a whole",
        "resume: expected",
    ):
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("environment", "main"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
    ],
)
def test_one_process_prints(environment: dict[str, str], main: bool, monkeypatch: pytest.MonkeyPatch):
    from sam_adapter.system.processes import is_main_process

    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_main_process() == main


@pytest.mark.parametrize("kind", list(cli.COMMANDS.values()), ids=list(cli.COMMANDS))
def test_every_number_has_a_range(kind: type[Config]):
    numbers = {name for name, hint in get_type_hints(kind).items() if {int, float} & {hint, *get_args(hint)}}
    assert not numbers - RANGES.keys()


VALID = {"images": "i", "masks": "m", "model": "m", "output": "o"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("seed", -1, "seed: expected a value from 0 to 4294967295, got -1"),
        ("seed", 2**64, "seed: expected"),
        ("workers", 10**20, "workers: expected a value from -1 to 256"),
        ("batch_size", 10**9, "batch_size: expected"),
        ("epochs", 10**12, "epochs: expected"),
        ("lr", float("nan"), "lr: expected a number, got nan"),
        ("lr", 0, "lr: expected a positive number"),
        ("weight_decay", float("inf"), "weight_decay: expected a number"),
        pytest.param("clip", 10**400, "clip: expected a number", id="large"),
        ("image_size", 10**9, "image_size: expected a value from 16 to 4096"),
        ("tune_dim", 0, "tune_dim: expected"),
        ("hidden_dim", 10**6, "hidden_dim: expected"),
        ("devices", 10**6, "devices: expected"),
        pytest.param("epochs", 10**5000, "epochs: expected .* got a number of thousands of digits", id="digits"),
        ("model", "a\0b", "model: expected text"),
        ("output", "a\0b", "output: expected a path"),
    ],
)
def test_absurd_values_are_refused_with_the_range(name: str, value: object, message: str):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**{**VALID, name: value})  # type: ignore[arg-type]


def test_values_of_a_wrong_type_and_out_of_range_come_together():
    with pytest.raises(ConfigError) as error:
        TrainConfig(**{**VALID, "epochs": "many", "seed": -1, "ema": 2})  # type: ignore[arg-type]
    assert len(error.value.problems) == 3


@pytest.mark.parametrize("content", [b"", b"- 1", b"images: [", b"\xff\xfe\x00", b"images: !!python/object:os.x {}"])
def test_configurations_that_cannot_be_read(tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError):
        TrainConfig.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(SystemExit) as stop:
        cli.main(["train", "--config", str(tmp_path / "c.yaml")])
    assert stop.value.code == 2
    assert "sam-adapter: error: " in capsys.readouterr().err
