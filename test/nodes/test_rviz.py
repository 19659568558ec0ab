"""config/entities.rviz shows the topics that there are."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import yaml

ROOT = Path(__file__).parents[2]


def test_everything_to_look_at_is_shown_and_nothing_else():
    displays = yaml.safe_load((ROOT / 'config' / 'entities.rviz').read_text())['Visualization Manager']['Displays']
    shown = {d['Topic']['Value'] for d in displays if 'Topic' in d}
    policy = ElementTree.parse(ROOT / 'config' / 'security' / 'policy.xml')
    published = {t.text for group in policy.iter('topics') if 'publish' in group.attrib for t in group}
    assert shown <= published
    assert {'label_image', 'overlay', 'markers', 'predicted_image', 'soft_masks', 'plan'} <= shown
    tables = (ROOT / 'README.md').read_text()
    assert all(re.search(rf'^\| `{topic}`', tables, re.MULTILINE) for topic in shown)
