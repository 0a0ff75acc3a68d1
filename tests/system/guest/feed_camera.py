"""Runs in the virtual machine: writes a picture into an output node of v4l2loopback, again and again, so that whoever
opens the node sees a camera before which that picture lies.

usage: feed_camera.py NODE YUYV|MJPG|GREY WIDTH HEIGHT FPS PICTURE
PICTURE is a link; when it is pointed at another file, the other picture is before the camera from the next frame on.
"""

import fcntl
import os
import struct
import sys
import time
from pathlib import Path

import cv2
import numpy as np

# linux/videodev2.h: _IOWR('V', 5, struct v4l2_format), on 64 bits 208 bytes that begin with the type, 4 bytes of
# padding, and struct v4l2_pix_format: width, height, pixelformat, field, bytesperline, sizeimage, colorspace
S_FMT = 0xC0D05605
# _IOW('V', 18, int): until then v4l2loopback takes nobody for the writer, and does not notice when the writer goes
STREAMON = 0x40045612
OUTPUT = 2
FIELD_NONE = 1
SRGB = 8


def encoded(picture, form):
    """The bytes of one frame."""
    if form == "MJPG":
        return cv2.imencode(".jpg", picture)[1].tobytes()
    if form == "GREY":
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).tobytes()
    luma, red, blue = cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2YCrCb))
    chroma = np.where(np.arange(picture.shape[1]) % 2 == 0, blue, np.roll(red, 1, axis=1))
    return np.dstack([luma, chroma]).tobytes()


def main(node, form, width, height, fps, link):
    size = (int(width), int(height))
    camera = os.open(node, os.O_RDWR)
    fourcc = struct.unpack("=I", form.encode())[0]
    row = {"YUYV": 2, "GREY": 1, "MJPG": 0}[form] * size[0]
    image = (row or 2 * size[0]) * size[1]
    asked = struct.pack("=II7I172x", OUTPUT, 0, *size, fourcc, FIELD_NONE, row, image, SRGB)
    fcntl.ioctl(camera, S_FMT, asked)
    fcntl.ioctl(camera, STREAMON, struct.pack("=i", OUTPUT))
    shown, frame = "", b""
    due = time.monotonic()
    while True:
        path = str(Path(link).readlink())
        if path != shown:
            shown, frame = path, encoded(cv2.resize(cv2.imread(path), size), form)
        os.write(camera, frame)
        due = max(due + 1 / float(fps), time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


main(*sys.argv[1:])
