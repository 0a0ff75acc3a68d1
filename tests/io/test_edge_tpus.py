"""The Edge TPUs that the kernel sees, as a tree of files shows them."""

from edge_agent.io.edge_tpus import EdgeTpu, edge_tpus


def usb(root, port, vendor, product):
    folder = root / "sys/bus/usb/devices" / port
    folder.mkdir(parents=True)
    (folder / "idVendor").write_text(f"{vendor}\n")
    (folder / "idProduct").write_text(f"{product}\n")


def test_sticks_and_cards_are_found_and_nothing_else(tmp_path):
    usb(tmp_path, "2-1.4", "1a6e", "089A")
    usb(tmp_path, "1-1", "18d1", "9302")
    usb(tmp_path, "3-1", "18d1", "4ee7")  # a telephone
    (tmp_path / "sys/bus/usb/devices/1-1:1.0").mkdir()
    (tmp_path / "dev").mkdir()
    for name in ("apex_0", "apex_1", "apex"):
        (tmp_path / "dev" / name).touch()
    assert edge_tpus(tmp_path) == (
        EdgeTpu("pci", "/dev/apex_0"),
        EdgeTpu("pci", "/dev/apex_1"),
        EdgeTpu("usb", "1-1"),
        EdgeTpu("usb", "2-1.4", ready=False),
    )


def test_a_machine_without_any_has_none(tmp_path):
    assert edge_tpus(tmp_path) == ()
