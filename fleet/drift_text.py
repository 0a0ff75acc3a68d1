"""Drift over a fleet, as tables for a person and as JSON. Pure."""

from __future__ import annotations

from edge_agent.core.wire import printable
from edge_agent.monitoring import Level
from fleet.drift_view import DeviceDrift, FeatureDrift, FleetDrift, Pooled
from fleet.fleet_text import table

DEVICES_SHOWN = 50  # of those that somebody should look at
ALARMS_SHOWN = 3
_DEVICE_HEAD = ("DEVICE", "PIPELINE", "LEVEL", "SINCE", "E-VALUE", "SHIFTED", "FEATURES")
_FEATURE_HEAD = ("FEATURE", "TV", "PSI", "MEAN", "DEVIATION", "MISSING", "OUTSIDE", "RAISED")


def text(found: FleetDrift) -> str:
    if not found.devices:
        return "\n".join(["no drift report in this time", *_unreadable(found)])
    notable = [device for device in found.devices if device.shifted or device.level is not Level.OK]
    shown = notable[:DEVICES_SHOWN]
    lines = [table(_DEVICE_HEAD, [_device(device) for device in shown]), ""] if shown else []
    if len(notable) > len(shown):
        lines += [f"and {len(notable) - len(shown)} more", ""]
    for pooled in found.pooled:
        lines += [_pooled(pooled), table(_FEATURE_HEAD, [_feature(feature) for feature in pooled.features]), ""]
    return "\n".join([*lines, _verdict(found), *_unreadable(found)])


def as_json(found: FleetDrift) -> dict[str, object]:
    """All members of edge-fleet/drift/1 that come from reports; msgspec writes the structs as they are."""
    return {
        "rate": found.rate,
        "mean_e_value": found.mean_e,
        "fleet_shifted": found.fleet_shifted,
        "reports": found.reports,
        "unreadable": found.unreadable,
        "devices": found.devices,
        "pooled": found.pooled,
    }


def _device(device: DeviceDrift) -> tuple[str, ...]:
    alarms = [printable(name) for name in device.alarms]
    more = f" and {len(alarms) - ALARMS_SHOWN} more" if len(alarms) > ALARMS_SHOWN else ""
    return (
        device.device,
        device.pipeline,
        device.level.value,
        printable(device.since or "-")[:19],
        "-" if device.e_value is None else f"{device.e_value:.3g}",
        "yes" if device.shifted else "",
        ", ".join(alarms[:ALARMS_SHOWN]) + more,
    )


def _pooled(pooled: Pooled) -> str:
    model = printable(f"{pooled.model.name} {pooled.model.version}")
    against = "" if pooled.reference else "; no reference given: --reference MODEL.tflite"
    many = "" if pooled.devices == 1 else "s"
    return f"{pooled.pipeline}: {model}, {pooled.devices} device{many}, {pooled.rows:,} rows{against}"


def _feature(feature: FeatureDrift) -> tuple[str, ...]:
    return (
        printable(feature.name),
        _number(feature.tv, ".3f"),
        _number(feature.psi, ".3f"),
        "-" if feature.mean is None else f"{feature.mean:.5g} {printable(feature.unit)}".rstrip(),
        _number(feature.deviation, ".3g"),
        f"{feature.missing:.2%}",
        str(feature.outside),
        str(feature.raised),
    )


def _number(value: float | None, how: str) -> str:
    return "-" if value is None else format(value, how)


def _verdict(found: FleetDrift) -> str:
    bad = sum(device.level in (Level.WARNING, Level.CRITICAL) for device in found.devices)
    alone = f"; {bad} of {len(found.devices)} at warning or critical by its own alarm" if bad else ""
    judged = sum(device.e_value is not None for device in found.devices)
    if found.mean_e is None:
        return f"watched pipelines: {len(found.devices)}, none with its baseline yet{alone}"
    shifted = sum(device.shifted for device in found.devices)
    names = f"{shifted} of {judged} have shifted" if shifted else f"none of {judged} has shifted"
    whole = "the fleet as a whole has shifted" if found.fleet_shifted else "the fleet as a whole has not"
    false = f"at most {found.rate:.0%} of those named are false"
    return f"{names} ({false}); {whole} (mean e-value {found.mean_e:.3g}){alone}"


def _unreadable(found: FleetDrift) -> list[str]:
    return [f"{found.unreadable} of {found.reports} reports could not be read"] if found.unreadable else []
