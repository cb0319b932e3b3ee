"""A teacher from a file: its energy guides, and what is no fitting teacher is refused."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from automix.core.errors import AutomixError, ConfigError, DataError
from automix.mixing.actions import MixAction
from automix.nets.create import create_classifier
from automix.training.maps.teacher import teacher_of
from automix.training.settings import TeacherSettings
from tests.automix.saliency import planted  # noqa: F401 (registers nets)
from tests.automix.training.helpers import CPU, ensemble_of, population_of, watched_mixes
from tests.cases import each
from tests.references import saliency as reference

TEACHER = MixAction("cutmix", 0.5, "teacher")


def net_of(model="small_cnn_w16", classes=7, channels=1, seed=4):
    net = create_classifier(model, num_classes=classes, shape=(channels, 8, 8), seed=seed)
    net.train()(torch.randn(16, channels, 8, 8, generator=torch.Generator().manual_seed(0)))
    return net.eval()


def written(folder, net, model="small_cnn_w16"):
    path = folder / "teacher.safetensors"
    save_file({name: one.contiguous() for name, one in net.state_dict().items()}, path)
    return TeacherSettings(model=model, weights=str(path))


def refused(teacher, kind=DataError):
    population = population_of(teacher=teacher)
    with pytest.raises(AutomixError) as error:
        population.run_epoch([TEACHER])
    assert isinstance(error.value, kind)
    assert ensemble_of(population)._updates == 0
    return error.value


@each("classes", [7, 10, 1])
@each("members", [1, 2])
def test_the_map_is_the_energy_of_the_net_in_the_file(monkeypatch, tmp_path, classes, members):
    """Whatever number of classes it has, and whoever asks."""
    seen = watched_mixes(monkeypatch)
    net = net_of(classes=classes)
    population = population_of(members, teacher=written(tmp_path, net))
    population.run_epoch([TEACHER] * members)
    for images, maps in ((call.images, call.saliency) for call in (seen[0], seen[-1])):
        for i in (0, 7):
            found = net.forward_features(images[i : i + 1])[0].tolist()
            wanted = reference.shares(reference.bilinear(reference.energy(found), 8, 8))
            assert_close(maps[i], torch.tensor(wanted), atol=1e-6, rtol=1e-4)


def test_a_teacher_is_read_once_and_learns_nothing(tmp_path):
    net = net_of()
    settings = written(tmp_path, net)
    population_of(teacher=settings).run_epoch([TEACHER])
    teacher = teacher_of(settings, (1, 8, 8), CPU)
    assert teacher is teacher_of(settings, (1, 8, 8), CPU)
    assert not teacher.training
    wanted = net.state_dict()
    body = {k: v for k, v in teacher.state_dict().items() if not k.startswith("fc.")}
    assert body
    assert all(torch.equal(value, wanted[name]) for name, value in body.items())
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_without_weights_it_says_what_to_set_and_what_works_without():
    error = refused(TeacherSettings(), ConfigError)
    assert "trainer.teacher names none" in error.message
    for word in ("trainer.teacher.model=", "trainer.teacher.weights=", "'ema'", "'gradient'"):
        assert word in error.hint


@each("given", ["model", "weights"])
def test_half_a_teacher_is_refused(given):
    missing = {"model": "weights", "weights": "model"}[given]
    wanted = rf"trainer\.teacher\.{given} is set and trainer\.teacher\.{missing} is not"
    with pytest.raises(ConfigError, match=wanted):
        TeacherSettings(**{given: "some"})


W16 = "small_cnn_w16"


@each(
    "net, model, kind, said",
    [
        ({"channels": 3}, W16, DataError, ["images of 3 channels, and those of the task have 1"]),
        ({"model": "small_cnn_w8"}, W16, DataError, ["'features.0.weight'", "(8, 1, 3, 3)"]),
        (
            {"model": "dropping_cnn_for_tests"},
            W16,
            DataError,
            ["is not the weights of trainer.teacher.model 'small_cnn_w16'"],
        ),
        ({}, "resnet8", ConfigError, ["not a timm model"]),
        (
            {"model": "dropout_cnn_for_tests"},
            "dropout_cnn_for_tests",
            ConfigError,
            ["shows no last feature map"],
        ),
        (None, W16, DataError, ["which is not there"]),
    ],
)
def test_a_net_that_does_not_fit_is_refused(tmp_path, net, model, kind, said):
    path = str(tmp_path / "teacher.safetensors")
    settings = TeacherSettings(model=model, weights=path)
    if net is not None:
        settings = written(tmp_path, net_of(**net), model)
    error = refused(settings, kind)
    assert all(words in error.message for words in said)
    assert net != {"channels": 3} or "gradient" in error.hint


@each("name", ["teacher.safetensors", "teacher.pth"])
def test_a_pickle_is_never_read(tmp_path, name):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / name
    torch.save({"weights": Trap()}, path)
    error = refused(TeacherSettings(model="small_cnn_w16", weights=str(path)))
    assert "not a safetensors file" in error.message
    assert not (tmp_path / "sprung").exists()
