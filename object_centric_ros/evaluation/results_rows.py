"""The rows of docs/RESULTS.md: what the five papers report, and which of our measurements stands beside it."""

from __future__ import annotations

from dataclasses import dataclass

RNEM, OP3, OBAI, EMORL, PARTS = ('R-NEM (van Steenkiste et al., 2018)', 'OP3 (Veerapaneni et al., 2019)',
                                 'OBAI (van Bergen and Lanillos, 2022)', 'EfficientMORL (Emami et al., 2021)',
                                 'PARTS (Zoran et al., 2021)')
FIGURE = 'figure only'


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        paper, table: where it is from.
        what: the quantity, its task and its model.
        theirs: the paper's number as printed, or `FIGURE` where it only draws it.
        ours: `NAME:METRIC` of measurements NAME*.json, or two of them with a slash between: their ratio.
        differs: how our setting differs from the paper's, beside data size, steps and time.
    """

    paper: str
    table: str
    what: str
    theirs: str
    ours: str
    differs: str = ''


def _rnem() -> list[Row]:
    drawn = 'balls are drawn anew; radii and speeds are not in the paper'
    rows = [Row(RNEM, 'Fig. 3', 'ARI, 4 balls, R-NEM', '0.8', 'rnem_balls_4:ari_f', drawn),
            Row(RNEM, 'Fig. 3', 'ARI, 6-8 balls, R-NEM, K = 8', FIGURE, 'rnem_balls_6_8:ari_f', drawn)]
    models = {'rnem': 'R-NEM', 'rnem_no_attention': 'R-NEM without attention', 'rnn_em': 'RNN-EM', 'lstm': 'LSTM',
              'rnn': 'RNN'}
    for balls, told in (('4', '4 balls'), ('6_8', '6-8 balls')):
        for name, title in models.items():
            for metric, loss in (('bce', 'BCE'), ('relational', 'relational BCE')):
                m = f'{name}_balls_{balls}:'
                ours = (f'{m}bce_last/{m}bce_copy_last' if metric == 'bce' else
                        f'{m}relational_bce_last/{m}relational_copy_last')
                rows.append(Row(RNEM, 'Fig. 3', f'{loss} relative to copying, {told}, {title}', FIGURE, ours,
                                drawn))
    behind = drawn + '; trained on four balls without a curtain'
    return [*rows, Row(RNEM, 'Fig. 5', 'BCE relative to copying, 3 balls behind a curtain, R-NEM', FIGURE,
                       'rnem_curtain:bce/rnem_curtain:bce_copy', behind),
            Row(RNEM, 'Fig. 5', 'ARI, 3 balls behind a curtain, R-NEM', FIGURE, 'rnem_curtain:ari_f', behind)]


def _op3() -> list[Row]:
    authors, own = "the authors' weights", 'op3_authors:'
    weights = "the authors' weights, our planner, worlds rebuilt on MuJoCo 3 and later"
    rows = [Row(OP3, 'Table 1', 'block towers built', '0.82', 'op3_stack:built', weights)]
    for blocks, xy, entity in ((1, '0.73', '0.91'), (2, '0.55', '0.80'), (3, '0.41', '0.55')):
        rows.append(Row(OP3, 'Table 2', f'pick and place, {blocks} blocks, (pick xy, place xy)', xy,
                        f'op3_pick_place_{blocks}_xy:accuracy', weights))
        rows.append(Row(OP3, 'Table 2', f'pick and place, {blocks} blocks, (entity, place xy)', entity,
                        f'op3_pick_place_{blocks}_entity:accuracy', weights))
    for theirs, name, what in (('0', 'op3_unshared', 'no weight sharing'), ('0', 'op3_unfactorised', 'unfactorised'),
                               ('0.05', 'op3_unfactorised_cost', 'unfactorised cost')):
        rows.append(Row(OP3, 'Table 3', f'block towers built, {what}', theirs, f'{name}_stack:built', weights))
    rows += [Row(OP3, 'none', what, 'none', ours, authors + ' on their images; not in the paper') for what, ours in (
        ('reconstruction MSE of stacking goals, 4 refinements', f'{own}mse_goals'),
        ('foreground ARI of stacking goals, 4 refinements', f'{own}ari_f_goals'),
        ('open-loop MSE after 1 action, relative to copying, 2 blocks', f'{own}open_1/{own}copy_1'),
        ('open-loop MSE after 4 actions, relative to copying, 2 blocks', f'{own}open_4/{own}copy_4'))]
    tabletop = 'not in the paper: the tabletop with 2 to 5 blocks'
    for name, title in (('op3_tabletop', 'OP3'), ('parts_tabletop', 'PARTS')):
        for metric, what in ((f'{name}:ari_f_last', 'foreground ARI, last frame'),
                             (f'{name}:mse_last', 'reconstruction MSE, last frame'),
                             (f'{name}:open_4/{name}:copy_4', 'open-loop MSE after 4 steps, relative to copying')):
            rows.append(Row(OP3 if name == 'op3_tabletop' else PARTS, 'none', f'{what}, tabletop, {title}', 'none',
                            metric, tabletop))
    return rows


def _obai() -> list[Row]:
    drawn = 'active-dSprites drawn anew'
    rows = [Row(OBAI, 'Table 1', f'{what}, active-dSprites, OBAI', theirs, f'obai_dsprites:{key}', drawn)
            for what, theirs, key in (('ARI', '0.948', 'ari'), ('foreground ARI', '0.939', 'ari_f'),
                                      ('reconstruction MSE', '9.51e-4', 'mse_last'))]
    rows += [Row(OBAI, 'Table 1', f'{what}, static dSprites, IODINE', theirs, f'iodine_dsprites:{key}', drawn)
             for what, theirs, key in (('ARI', '0.081', 'ari_first'), ('foreground ARI', '0.856', 'ari_f_first'),
                                       ('reconstruction MSE', '1.63e-3', 'mse_first'))]
    ahead = 'obai_dsprites_ahead:'
    return [*rows, Row(OBAI, 'Section 3.2', 'MSE of prediction after 4 seen frames, OBAI', '4e-3', f'{ahead}open_4',
                       drawn + '; 4 frames ahead, the paper does not say how far'),
            Row(OBAI, 'Section 3.2', 'the same, relative to moving pixels straight on', 'none',
                f'{ahead}open_4/{ahead}line_4', drawn)]


def _emorl() -> list[Row]:
    table = {'clevr': ('CLEVR6', '0.962 ± 0.016', '0.988 ± 0.003', '0.988 ± 0.000'),
             'multi_dsprites': ('Multi-dSprites', '0.912 ± 0.004', '0.913 ± 0.003', '0.767 ± 0.056'),
             'tetrominoes': ('Tetrominoes', '0.982 ± 0.018', '0.995 ± 0.002', '0.992 ± 0.004')}
    rows = []
    for data, (title, *theirs) in table.items():
        for name, model, value in zip(('efficientmorl', 'slot_attention', 'iodine'),
                                      ('EfficientMORL', 'Slot Attention', 'IODINE'), theirs, strict=True):
            rows.append(Row(EMORL, 'Table 1', f'foreground ARI, {title}, {model}', value, f'{name}_{data}:ari_f_first',
                            'pictures drawn anew' + (', CLEVR-like' if data == 'clevr' else '')))
        if data != 'clevr':
            longer = '; training seed 0 by an earlier, longer schedule' if data == 'tetrominoes' else ''
            rows.append(Row(EMORL, 'none', f'foreground ARI, {title}, PARTS', 'none', f'parts_{data}:ari_f_first',
                            'not in the papers: PARTS on these pictures, drawn anew' + longer))
    for name, title in (('efficientmorl', 'EfficientMORL'), ('slot_attention', 'Slot Attention')):
        rows += [Row(EMORL, 'Fig. 9b', f'{what}, CLEVR6, {title}', FIGURE, f'{name}_clevr:{what}',
                     'CLEVR-like pictures, factors in five classes, things and slots matched by IoU')
                 for what in ('disentanglement', 'completeness', 'informativeness')]
    zero, one = 'efficientmorl_clevr_0:', 'efficientmorl_clevr_1:'
    without = 'ARI without refinement, relative to one step'
    return [*rows, Row(EMORL, 'Section 4.2', without, '0.991', f'{zero}ari_f_first/{one}ari_f_first',
                       'CLEVR-like pictures'),
            Row(EMORL, 'none', f'{without}, Tetrominoes', 'none',
                'efficientmorl_tetrominoes:ari_f_first/efficientmorl_tetrominoes_1:ari_f_first',
                'the paper has it for CLEVR6 alone')]


def _parts() -> list[Row]:
    rows = [Row(PARTS, 'Table 1', f'{what}, PLAYROOM, {title}', theirs, '', 'PLAYROOM is not public')
            for what, title, theirs in (('ARI-F', 'PARTS', '0.7349'), ('MSE', 'PARTS', '0.0023'))]
    rows.append(Row(PARTS, 'Section 4.1', 'ARI-F, last frame, CLEVRER, PARTS', '0.921', 'parts_clevrer:ari_f_last',
                    'a CLEVRER-like world'))
    ablation = (('parts_s_iodine', 'S-IODINE', '0.417 ± .014'), ('parts_op3', 'OP3', '0.425 ± .004'),
                ('parts_attention', 'SA, fixed prior', '0.476 ± .009'),
                ('parts_attention_op3', 'SA, actions', '0.651 ± .010'),
                ('parts_predicted_prior', 'SA, actions, TRx', '0.554 ± .013'),
                ('parts_interaction', 'SA, fixed prior, actions', '0.672 ± .014'),
                ('parts_paper', 'all', '0.712 ± .009'))
    for world in ('tabletop', 'clevrer'):
        rows += [Row(PARTS, 'Table 2', f'ARI-F, last frame, {title}', theirs, f'{name}_{world}:ari_f_last',
                     f'{"the tabletop" if world == "tabletop" else "a CLEVRER-like world"}, not PLAYROOM: compare the '
                     'order') for name, title, theirs in ablation]
    rows += [Row(PARTS, 'Fig. 7', f'ARI-F, last frame, {what} prior', FIGURE, f'{name}_tabletop:ari_f_last',
                 'the tabletop, not PLAYROOM') for name, what in (('parts_paper', 'fixed'),
                                                                 ('parts_predicted_prior', 'predicted'))]
    return rows


ROWS: tuple[Row, ...] = (*_rnem(), *_op3(), *_obai(), *_emorl(), *_parts())
