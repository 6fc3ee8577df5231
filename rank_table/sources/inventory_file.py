"""An inventory in a YAML or JSON file: what `npu-launch inventory --json` prints, or written by hand."""

from __future__ import annotations

import json
from typing import Any, Mapping

from rank_table import files
from rank_table.errors import InventoryError
from rank_table.inventory import CHIPS, Device, Host, Inventory
from rank_table.table import short_integer

LONGEST = 16 << 20  # bytes
LONGEST_YAML = 512 << 10  # characters: some seconds of PyYAML; 800 hosts of eight devices
MOST_VALUES, DEEPEST = 500_000, 40
NUMBERS = ("device_id", "logical_id", "npu_id", "chip_id", "visible_index", "local_id")
TEXTS = ("device_ip", "super_device_id", "health", "cores")
DEVICE_KEYS = (*NUMBERS, *TEXTS, "levels", "source", "origin")
DEVICE_WRITTEN = (*NUMBERS, *TEXTS, "levels")
HOST_WRITTEN = ("server_id", "host_ip", "super_pod_id", "chip", "pod_name")
HOST_KEYS = ("server_id", "devices", "host_ip", "super_pod_id", "chip", "pod_name", "origin")


def read(path: str) -> Inventory:
    """Read an inventory file.

        hosts:
          - server_id: 10.0.0.1
            chip: A2
            devices: [{device_id: 0, device_ip: 192.168.100.1}, {device_id: 1, device_ip: ...}]

    A bare number is a device without an address.

    Raises:
        InventoryError: the file cannot be read, or something in it is missing or duplicate.
    """
    document = _parse(path)
    hosts = document.get("hosts") if isinstance(document, dict) else None
    if not isinstance(hosts, list) or not hosts:
        raise InventoryError(f"{path}: hosts: missing (expected a list of {{server_id, devices}})")
    found: dict[str, Host] = {}
    for number, value in enumerate(hosts):
        place = f"{path}: hosts[{number}]"
        host = _host(value, place)
        if host.server_id in found:
            raise InventoryError(f"{place}: server_id: duplicate {host.server_id}; give each host its own")
        found[host.server_id] = host
    notes = document.get("notes") or ()
    texts = tuple(map(str, notes)) if isinstance(notes, list) else ()
    return Inventory(tuple(found.values()), path, texts)


def document(inventory: Inventory, explain: bool = False) -> dict[str, Any]:
    """Make the document that `read` reads back; `explain` adds the source of each value."""
    hosts = []
    for host in inventory.hosts:
        devices = [_written(device, DEVICE_WRITTEN, explain) for device in host.devices]
        hosts.append(dict(_written(host, HOST_WRITTEN, explain), devices=devices))
    return {"hosts": hosts, "notes": list(inventory.notes)}


def _written(item: Host | Device, keys: tuple[str, ...], explain: bool) -> dict[str, Any]:
    values = {key: getattr(item, key) for key in keys if getattr(item, key) not in ("", -1, ())}
    if explain:
        values["origin"] = {key: source for key, source in item.origin.items() if key in values}
    return values


def _parse(path: str) -> Any:
    try:
        text = files.text(path, LONGEST)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InventoryError(f"{path}: {files.reason(error)}") from None
    document = _json(text, path) if text.lstrip().startswith("{") else None
    if document is None:  # YAML, whose braces need no quotes
        document = _yaml(text, path)
    _refuse_bomb(document, path)
    return document


def _json(text: str, path: str) -> Any:
    """Parse a JSON document; None when it is none."""
    try:
        return json.loads(text, parse_int=short_integer)
    except (json.JSONDecodeError, RecursionError):
        return None
    except ValueError as error:
        raise InventoryError(f"{path}: {error}") from None


def _yaml(text: str, path: str) -> Any:
    import yaml

    if len(text) > LONGEST_YAML:
        raise InventoryError(f"{path}: longer than {LONGEST_YAML >> 10} KiB of YAML; write it as JSON")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or a number that does not exist
        raise InventoryError(f"{path}: invalid YAML: {' '.join(str(error).split())[:300]}") from None
    except RecursionError:
        raise InventoryError(f"{path}: invalid YAML: nested too deeply") from None


def _refuse_bomb(document: Any, path: str) -> None:
    """Refuse a document whose aliases make it endless, or far larger than its text."""
    left = MOST_VALUES
    waiting = [iter([document])]
    while waiting:
        value = next(waiting[-1], waiting)
        if value is waiting:
            waiting.pop()
            continue
        left -= 1
        if left < 0 or len(waiting) > DEEPEST:
            what = "nested too deeply" if left >= 0 else f"more than {MOST_VALUES:,} values"
            raise InventoryError(f"{path}: {what}, aliases counted each time; write it without aliases")
        if isinstance(value, (dict, list)):
            waiting.append(iter(value.values() if isinstance(value, dict) else value))


def _host(value: Any, place: str) -> Host:
    if (
        not isinstance(value, dict)
        or not value.get("server_id")
        or not isinstance(value.get("devices"), list)
    ):
        raise InventoryError(f"{place}: invalid host (expected server_id and a list of devices)")
    _known(value, HOST_KEYS, place)
    chip = _text(value, "chip", place) if _given(value, "chip") else ""
    if chip and chip not in CHIPS:
        raise InventoryError(f"{place}: chip: {chip:.40}: unknown chip (expected {', '.join(CHIPS)})")
    devices: list[Device] = []
    seen: dict[int, int] = {}
    for index, item in enumerate(value["devices"]):
        device = _device(item, index, f"{place}.devices[{index}]")
        if device.device_id in seen:
            first = f"devices[{seen[device.device_id]}]"
            number = device.device_id
            raise InventoryError(f"{place}.devices[{index}]: device_id: {number} is also that of {first}")
        seen[device.device_id] = index
        devices.append(device)
    texts = {
        name: _text(value, name, place)
        for name in ("host_ip", "super_pod_id", "pod_name")
        if _given(value, name)
    }
    origin = _origin(value, place)
    return Host(_text(value, "server_id", place), tuple(devices), chip=chip, origin=origin, **texts)


def _device(item: Any, index: int, place: str) -> Device:
    item = {"device_id": item} if _is_number(item) else item
    if not isinstance(item, dict) or not _is_number(item.get("device_id")) or item["device_id"] < 0:
        raise InventoryError(f"{place}: device_id: invalid number (expected 0 or more)")
    _known(item, DEVICE_KEYS, place)
    for name in NUMBERS:
        if name in item and not _is_number(item[name]):
            raise InventoryError(f"{place}: {name}: {item[name]!r:.80} is not a number")
    numbers = {name: item[name] for name in NUMBERS if name in item}
    numbers.setdefault("logical_id", index)
    texts = {name: _text(item, name, place) for name in TEXTS if _given(item, name)}
    source = str(item.get("source") or place)
    values: dict[str, Any] = dict(numbers, **texts)
    return Device(source=source, levels=_levels(item, place), origin=_origin(item, place), **values)


def _levels(item: Mapping[str, Any], place: str) -> tuple[Mapping[str, Any], ...]:
    levels = item.get("levels") or []
    if not isinstance(levels, list) or not all(isinstance(level, dict) for level in levels):
        raise InventoryError(
            f"{place}: levels: invalid (expected a list of {{net_layer, net_instance_id, ...}})"
        )
    return tuple(levels)


def _origin(value: Mapping[str, Any], place: str) -> dict[str, str]:
    given = value.get("origin")
    if not isinstance(given, dict):
        return {"device_id": place}
    return {str(key): _text(given, key, place) for key in given}


def _known(value: Mapping[str, Any], keys: tuple[str, ...], place: str) -> None:
    for key in value:
        if key not in keys:
            raise InventoryError(f"{place}: {key!s:.60}: unknown key (expected one of {', '.join(keys)})")


def _text(value: Mapping[Any, Any], name: Any, place: str) -> str:
    if isinstance(value[name], (dict, list)):
        raise InventoryError(f"{place}: {name!s:.60}: invalid (expected a text)")
    return str(value[name])


def _given(value: Mapping[str, Any], name: str) -> bool:
    return value.get(name) not in (None, "")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
