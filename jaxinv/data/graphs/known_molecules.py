"""Well-known molecules, written down here: the embedded default.

They are facts of general chemistry and no one's data. Sizes go from 1 to 23 heavy
atoms; rings of three and four, salts, charges and mirror images are among them, since
those are what an attack on molecules gets wrong first.
"""

from __future__ import annotations

from jaxinv.data.graphs.atoms import chemistry, parsed
from jaxinv.data.graphs.molecules import Molecules, from_smiles

KNOWN_MOLECULES = {
    "water": "O",
    "ethanol": "CCO",
    "acetone": "CC(C)=O",
    "acetonitrile": "CC#N",
    "urea": "NC(N)=O",
    "dimethyl sulphoxide": "CS(C)=O",
    "sulphuric acid": "OS(=O)(=O)O",
    "trimethyl phosphate": "COP(=O)(OC)OC",
    "cyclopropane": "C1CC1",
    "ethylene oxide": "C1CO1",
    "cyclobutane": "C1CCC1",
    "cubane": "C12C3C4C1C5C2C3C45",
    "allene": "C=C=C",
    "furan": "c1ccoc1",
    "thiophene": "c1ccsc1",
    "benzene": "c1ccccc1",
    "pyridine": "c1ccncc1",
    "naphthalene": "c1ccc2ccccc2c1",
    "nitrobenzene": "O=[N+]([O-])c1ccccc1",
    "TNT": "Cc1c([N+](=O)[O-])cc([N+](=O)[O-])cc1[N+](=O)[O-]",
    "sodium acetate": "CC(=O)[O-].[Na+]",
    "choline chloride": "C[N+](C)(C)CCO.[Cl-]",
    "glycine": "[NH3+]CC(=O)[O-]",
    "L-alanine": "C[C@H](N)C(=O)O",
    "D-alanine": "C[C@@H](N)C(=O)O",
    "citric acid": "OC(=O)CC(O)(CC(=O)O)C(=O)O",
    "glucose": "OC[C@H]1O[C@@H](O)[C@H](O)[C@@H](O)[C@@H]1O",
    "vanillin": "COc1cc(C=O)ccc1O",
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "paracetamol": "CC(=O)Nc1ccc(O)cc1",
    "ibuprofen": "CC(C)Cc1ccc(C(C)C(=O)O)cc1",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
    "dopamine": "NCCc1ccc(O)c(O)c1",
    "adrenaline": "CNC[C@H](O)c1ccc(O)c(O)c1",
    "menthol": "CC(C)[C@@H]1CC[C@@H](C)C[C@H]1O",
    "DDT": "Clc1ccc(cc1)C(c1ccc(Cl)cc1)C(Cl)(Cl)Cl",
    "penicillin G": "CC1(C)S[C@@H]2[C@H](NC(=O)Cc3ccccc3)C(=O)N2[C@H]1C(=O)O",
}
"""Name: SMILES."""


def load_known_molecules() -> Molecules:
    """`KNOWN_MOLECULES` in their order, mean and std over them.

    The label is 1 where the molecule has a ring of six atoms, else 0.

    Raises:
      InputError: RDKit is not installed.
    """
    chem = chemistry()
    smiles = list(KNOWN_MOLECULES.values())
    labels = []
    for text in smiles:
        rings = chem.GetSymmSSSR(parsed(text))
        labels.append(int(any(len(ring) == 6 for ring in rings)))
    return from_smiles(smiles, labels)
